//! Request and reply between two processes, over two channels: each side writes one and follows the other's.
//!
//! ```sh
//! mkdir /tmp/sums
//! cargo run --example request_reply -- server /tmp/sums
//! printf '1 2 3\n4 five\n' | cargo run --example request_reply -- client /tmp/sums
//! ```
//!
//! A request is a line of numbers, its reply their sum. All requests are under way before the first reply is looked
//! for; a reply says which request it belongs to by the sequence that the request has in its channel. The client ends
//! when it has every reply, the server when the client has closed its channel. If one of them dies, the other one
//! says so. The directory serves once, since a channel is written once.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::io;
use std::path::Path;
use std::time::Duration;

use kekbit::{Channel, Encode, EncodeError, End, Reader, Start, Wait, Writer};

/// How long either side waits for the other one to come.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    match &args[..] {
        [role, dir] if role == "server" => serve(Path::new(dir)),
        [role, dir] if role == "client" => ask(Path::new(dir)),
        _ => Err("usage: request_reply server|client DIRECTORY".into()),
    }
}

fn ask(dir: &Path) -> Result<(), Box<dyn Error>> {
    let mut requests = Writer::create(dir.join("requests.kek"))?;
    let mut replies = follow(&dir.join("replies.kek"))?;
    let mut pending = HashMap::new();
    for line in io::stdin().lines() {
        let line = line?;
        let request = requests.append(line.as_bytes())?;
        pending.insert(request.sequence, line);
    }
    while !pending.is_empty() {
        let Some(record) = replies.next(Wait::backoff())? else {
            let (missing, end) = (pending.len(), replies.end());
            return Err(format!("{missing} replies are missing, the server is gone: {end:?}").into());
        };
        let reply = Reply::decode(&record)?;
        let request = pending.remove(&reply.to).ok_or("a reply to no request")?;
        println!("{request} -> {}", reply.text);
    }
    requests.close()?;
    Ok(())
}

fn serve(dir: &Path) -> Result<(), Box<dyn Error>> {
    let mut replies = Writer::create(dir.join("replies.kek"))?;
    let mut requests = follow(&dir.join("requests.kek"))?;
    while let Some(request) = requests.next(Wait::backoff())? {
        let text = sum(&request).map_or_else(|error| error.to_string(), |sum| sum.to_string());
        replies.append_encoded(&Reply { to: request.sequence(), text: &text })?;
    }
    replies.close()?;
    match requests.end() {
        Some(End::Closed) => Ok(()),
        end => Err(format!("the client has not closed its channel: {end:?}").into()),
    }
}

fn follow(path: &Path) -> Result<Reader, Box<dyn Error>> {
    let channel = Channel::wait_for(path, Wait::backoff().at_most(PATIENCE))?;
    Ok(channel.ok_or("the other side has not come")?.reader(Start::Beginning)?)
}

fn sum(request: &[u8]) -> Result<f64, Box<dyn Error>> {
    let mut sum = 0.0;
    for number in str::from_utf8(request)?.split_whitespace() {
        sum += number.parse::<f64>()?;
    }
    Ok(sum)
}

/// Eight bytes that say to which request, then text. It is written straight into the channel.
struct Reply<'a> {
    to: u64,
    text: &'a str,
}

impl Encode for Reply<'_> {
    fn max_len(&self) -> usize {
        8 + self.text.len()
    }

    fn encode(&self, space: &mut [u8]) -> Result<usize, EncodeError> {
        space[..8].copy_from_slice(&self.to.to_le_bytes());
        space[8..].copy_from_slice(self.text.as_bytes());
        Ok(space.len())
    }
}

impl<'a> Reply<'a> {
    fn decode(record: &'a [u8]) -> Result<Reply<'a>, Box<dyn Error>> {
        let (to, text) = record.split_first_chunk().ok_or("a reply of less than 8 bytes")?;
        Ok(Reply { to: u64::from_le_bytes(*to), text: str::from_utf8(text)? })
    }
}
