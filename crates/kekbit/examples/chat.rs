//! Chat without a server: everybody writes a channel of their own in one directory, and follows all the others.
//!
//! ```sh
//! mkdir /tmp/chat
//! cargo run --example chat -- /tmp/chat alice   # in one terminal
//! cargo run --example chat -- /tmp/chat bob     # in another; type, leave with Ctrl-D
//! ```
//!
//! Who comes later sees what was said before, since the channels stay. The others see who leaves, and who is killed.

use std::collections::HashSet;
use std::env;
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

use kekbit::{Channel, End, Reader, Start, Wait, Writer};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [dir, name] = &args[..] else { return Err("usage: chat DIRECTORY NAME".into()) };
    // A channel is written once. With the process's number, a name can come back.
    let path = Path::new(dir).join(format!("{name}.{}.kek", process::id()));
    let mut writer = Writer::create(&path)?;
    let mut own = Channel::open(&path)?.reader(Start::Beginning)?;
    println!("* you have joined");
    let typing = thread::spawn(move || -> Result<()> {
        for line in io::stdin().lines() {
            writer.append(line?.as_bytes())?;
        }
        Ok(writer.close()?)
    });

    let mut known = HashSet::from([path]);
    let mut others = Vec::new();
    loop {
        // One's own channel serves as the clock, and its end as the sign to leave.
        let leave =
            own.next(Wait::backoff().at_most(Duration::from_millis(20)))?.is_none() && own.end().is_some();
        others.append(&mut newcomers(dir, &mut known)?);
        let mut here = Vec::new();
        for mut other in others {
            if other.listen()? {
                here.push(other);
            }
        }
        others = here;
        if leave {
            return typing.join().expect("typing does not panic");
        }
    }
}

struct Other {
    name: String,
    reader: Reader,
}

/// Opens the channels in `dir` that are not `known` yet.
fn newcomers(dir: &str, known: &mut HashSet<PathBuf>) -> Result<Vec<Other>> {
    let mut newcomers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "kek") && known.insert(path.clone()) {
            let file_name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = file_name.split('.').next().unwrap_or_default().to_owned();
            newcomers.push(Other { name, reader: Channel::open(&path)?.reader(Start::Beginning)? });
        }
    }
    newcomers.sort_by_key(|other| other.reader.channel().created_nanos());
    newcomers.iter().for_each(|other| println!("* {} has joined", other.name));
    Ok(newcomers)
}

impl Other {
    /// Prints what has been said since the last time, and returns whether more may come.
    fn listen(&mut self) -> Result<bool> {
        while let Some(line) = self.reader.try_next()? {
            println!("{}: {}", self.name, String::from_utf8_lossy(&line));
        }
        match self.reader.check_end()? {
            None => return Ok(true),
            Some(End::Closed) => println!("* {} has left", self.name),
            Some(_) => println!("* {} is gone", self.name),
        }
        Ok(false)
    }
}
