//! A step of a pipeline that handles each record exactly once, whenever it is killed: orders from one journal become invoices in
//! another.
//!
//! ```sh
//! printf 'apples\npears\n' | kek write --no-timestamp /tmp/orders/     # an empty directory
//! cargo run --example exactly_once -- /tmp/orders /tmp/invoices
//! cargo run --example exactly_once -- /tmp/orders /tmp/invoices        # again: nothing is invoiced twice
//! ```
//!
//! What comes of an order, and how far that takes it in the journal of orders, are one batch: both are there after a crash, or
//! neither. Where to go on is read from the last batch. The named cursor is for others, who see by it how far this step is behind, and
//! keeps the orders from being given up.

use std::env;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

use kekbit::{Journal, Start, Wait};

/// What the record says that tells how far the orders have been handled.
const DONE: &str = "done ";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [orders, invoices] = &args[..] else { return Err("usage: exactly_once ORDERS INVOICES".into()) };
    let mut to = Journal::options().open(invoices)?;
    let begin = handled(Path::new(invoices))?;
    let mut from = Journal::reader(orders)?.cursor("invoices")?;
    from.seek(Start::Sequence(begin))?;
    println!("from order {begin} on");
    loop {
        let wait = Wait::backoff().at_most(Duration::from_millis(100));
        let Some(order) = from.next(wait)? else {
            if from.writer_lives()? {
                continue;
            }
            return Ok(to.close()?);
        };
        let sequence = order.sequence();
        let invoice = format!("invoice {sequence}: {}", order.escape_ascii());
        let mut batch = to.batch();
        batch.push(invoice.as_bytes())?;
        batch.push(format!("{DONE}{}", sequence + 1).as_bytes())?;
        batch.commit()?;
        from.commit();
        println!("{invoice}");
    }
}

/// The first order that has not been handled: the last record of the last batch.
fn handled(invoices: &Path) -> Result<u64, Box<dyn Error>> {
    let mut reader = Journal::reader(invoices)?;
    reader.seek(Start::Last(1))?;
    let Some(last) = reader.try_next()? else { return Ok(0) };
    let text = std::str::from_utf8(&last)?;
    Ok(text
        .strip_prefix(DONE)
        .ok_or("the last record does not tell how far the orders are handled")?
        .parse()?)
}
