//! A bank whose books are a journal: state that is gone when the process ends, and comes back from the records.
//!
//! ```sh
//! cargo run --example bank -- /tmp/bank
//! alice bob 10      # type transfers; what there is follows
//! cargo run --example bank -- /tmp/bank     # after Ctrl-C, kill -9 or a power cut: as if nothing had happened
//! ```
//!
//! Both sides of a transfer are in one batch, so that no crash can leave one without the other. Each is durable before it is answered.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::io;
use std::path::Path;

use kekbit::{Durability, Journal, Roll};

type Balances = BTreeMap<String, i64>;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [path] = &args[..] else { return Err("usage: bank DIRECTORY".into()) };
    // Opened for writing first: that ends what a writer that was killed has left unended.
    let mut journal =
        Journal::options().roll(Roll::Bytes(1 << 20)).durability(Durability::Each).open(path)?;
    let mut balances = replay(Path::new(path))?;
    println!("{} transfers so far", journal.next_sequence() / 2);
    show(&balances);
    for line in io::stdin().lines() {
        let line = line?;
        let words: Vec<_> = line.split_whitespace().collect();
        let [from, to, amount] = words[..] else {
            println!("type: FROM TO AMOUNT");
            continue;
        };
        let Ok(amount @ 1..) = amount.parse::<i64>() else {
            println!("{amount} is no amount");
            continue;
        };
        let mut transfer = journal.batch();
        let entries = [entry(from, -amount), entry(to, amount)];
        entries.iter().try_for_each(|entry| transfer.push(entry.as_bytes()))?;
        transfer.commit()?;
        // Only what is in the books has happened.
        entries.iter().try_for_each(|entry| book(&mut balances, entry))?;
        show(&balances);
    }
    Ok(journal.close()?)
}

fn entry(account: &str, amount: i64) -> String {
    format!("{account} {amount}")
}

fn book(balances: &mut Balances, entry: &str) -> Result<(), Box<dyn Error>> {
    let (account, amount) = entry.rsplit_once(' ').ok_or("an entry without an amount")?;
    *balances.entry(account.to_owned()).or_default() += amount.parse::<i64>()?;
    Ok(())
}

/// What all entries come to.
fn replay(path: &Path) -> Result<Balances, Box<dyn Error>> {
    let mut balances = Balances::new();
    let mut reader = Journal::reader(path)?;
    while let Some(record) = reader.try_next()? {
        book(&mut balances, std::str::from_utf8(&record)?)?;
    }
    Ok(balances)
}

fn show(balances: &Balances) {
    let accounts: Vec<_> = balances.iter().map(|(account, balance)| format!("{account} {balance}")).collect();
    println!("{}", if accounts.is_empty() { "nobody has anything".to_owned() } else { accounts.join(", ") });
}
