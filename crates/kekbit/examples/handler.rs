//! Handlers of one's own: a stage that puts something in front of each record, and one that puts other bytes in its
//! place; and the way back, with a [`Decoder`] that is made of the same handlers.
//!
//! ```sh
//! printf 'attack at dawn\nbring all the elephants\nnow\n' | cargo run --example handler -- write /tmp/secret.kek
//! cargo run --example handler -- read /tmp/secret.kek
//! ```
//!
//! The pad is short, so the second record is refused. That leaves no trace in the channel, and the third one fits. A
//! reader without the stages is told that it cannot read this channel.

use std::env;
use std::error::Error;
use std::io;

use kekbit::{
    AppendContext, AppendError, Channel, Decoder, End, Handler, StageError, StageInfo, Start, Wait, Writer,
};

/// Puts the number of the station in front of its records.
struct Station(u32);

impl Handler for Station {
    fn describe(&self) -> StageInfo {
        // Ids below 65536 belong to kekbit.
        StageInfo { id: 65536, version: 1, prefix_len: 4, name: "station".into(), ..StageInfo::default() }
    }

    fn before(&mut self, _: &mut AppendContext, _: &[u8], prefix: &mut [u8]) -> Result<(), StageError> {
        prefix.copy_from_slice(&self.0.to_le_bytes());
        Ok(())
    }
}

/// Encrypts by a one-time pad: puts in place of the payload how much of the pad was used before, eight bytes, and then
/// the exclusive or of the payload and the pad from there on.
struct Pad {
    pad: &'static [u8],
    used: usize,
}

impl Pad {
    fn xor(&self, from: usize, bytes: &[u8]) -> Option<impl Iterator<Item = u8>> {
        let pad = self.pad.get(from..)?.get(..bytes.len())?;
        Some(pad.iter().zip(bytes).map(|(pad, byte)| pad ^ byte))
    }
}

impl Handler for Pad {
    fn describe(&self) -> StageInfo {
        StageInfo { id: 65537, version: 1, replaces: true, name: "pad".into(), ..StageInfo::default() }
    }

    fn instead(&mut self, _: &mut AppendContext, body: &[u8], out: &mut Vec<u8>) -> Result<(), StageError> {
        let left = self.pad.len() - self.used;
        let encrypted =
            self.xor(self.used, body).ok_or_else(|| format!("only {left} bytes of the pad are left"))?;
        out.extend((self.used as u64).to_le_bytes());
        out.extend(encrypted);
        // Not only when the record is published: no part of a pad is used twice, even if the append fails later on.
        self.used += body.len();
        Ok(())
    }

    fn undo(&self, _: &[u8], body: &[u8], _: &[u8], out: &mut Vec<u8>) -> Result<(), StageError> {
        let (from, encrypted) = body.split_first_chunk().ok_or("no place in the pad")?;
        let from = u64::from_le_bytes(*from).try_into()?;
        out.extend(self.xor(from, encrypted).ok_or("a place beyond the pad")?);
        Ok(())
    }
}

/// Only for show: a real one is random, secret, and for one channel.
const PAD: Pad = Pad { pad: b"x8Gq2LmZ0vRk7TsWyB4n", used: 0 };

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    match &args[..] {
        [role, path] if role == "write" => write(path),
        [role, path] if role == "read" => read(path),
        _ => Err("usage: handler write|read PATH".into()),
    }
}

fn write(path: &str) -> Result<(), Box<dyn Error>> {
    // The outermost stage comes first: the station's number is not encrypted.
    let mut writer = Writer::options().stage(Station(7)).stage(PAD).create(path)?;
    for line in io::stdin().lines() {
        let line = line?;
        match writer.append(line.as_bytes()) {
            Ok(at) => println!("{line}: sequence {}", at.sequence),
            Err(AppendError::Stage(reason)) => println!("{line}: refused, {reason}"),
            Err(error) => return Err(error.into()),
        }
    }
    writer.close()?;
    Ok(())
}

fn read(path: &str) -> Result<(), Box<dyn Error>> {
    let channel = Channel::options().stored(true).open(path)?;
    let mut decoder = Decoder::new(&channel).stage(Station(0)).stage(PAD).build()?;
    let mut reader = channel.reader(Start::Beginning)?;
    while let Some(record) = reader.next(Wait::backoff())? {
        let decoded = decoder.decode(&record)?;
        let station = u32::from_le_bytes(decoded.fields[0].prefix.try_into()?);
        let (payload, stored) = (decoded.payload.escape_ascii(), record.stored().escape_ascii());
        println!("{} from station {station}: {payload}, stored as {stored}", record.sequence());
    }
    match reader.end() {
        Some(End::Closed) => Ok(()),
        end => Err(format!("the writer has not closed its channel: {end:?}").into()),
    }
}
