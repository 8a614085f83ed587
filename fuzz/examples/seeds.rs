//! Writes what the corpus began with: `cargo run --example seeds -- DIRECTORY` with `--cfg fuzzing`. The samples of
//! testdata/draft as pieces for `open_scan` and as headers for `header`, and what people type for `command`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let directory = std::env::args_os().nth(1).expect("where the seeds go");
    let directory = Path::new(&directory);
    for target in ["header", "open_scan", "command"] {
        std::fs::create_dir_all(directory.join(target))?;
    }
    for sample in std::fs::read_dir("../testdata/draft")? {
        let path = sample?.path();
        let image = std::fs::read(&path)?;
        if path.extension().is_none_or(|extension| extension != "kek") || image.len() > 1 << 15 {
            continue;
        }
        let name = path.file_stem().expect("it has a name");
        // Seen as it is, then as if it had been created here.
        for (n, what) in [(0, 5), (1, 1), (1, 248)] {
            let mut seed = vec![0b0110_0000, what, n, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            pieces(&image, &mut seed);
            std::fs::write(directory.join("open_scan").join(format!("{}-{what}", name.display())), seed)?;
        }
        let attributes = usize::from(u16::from_le_bytes([image[216], image[217]]));
        let mut seed = vec![1];
        seed.extend_from_slice(&image[..224 + attributes]);
        std::fs::write(directory.join("header").join(name), &seed)?;
        seed.drain(1..225);
        seed[0] = 5;
        std::fs::write(directory.join("header").join(format!("{}-attributes", name.display())), seed)?;
        let mut seed = vec![6];
        seed.extend_from_slice(&image[72..88]);
        seed.extend_from_slice(&image[8192..8224]);
        std::fs::write(directory.join("header").join(format!("{}-entry", name.display())), seed)?;
    }
    let lines = [
        "write log.kek access.log --capacity 4G --max-record=16M --timeout 1m --sync 10ms -q",
        "write -0 --no-timestamp --checksum none --meta venue=XETR --content-type text/plain n.kek",
        "write --framed --writer-id 1 --channel-id 2 --sync each x.kek -",
        "cat --from -5 -n 3 --json x.kek",
        "cat --from @2026-01-01T00:00:00Z --hex x.kek",
        "tail -f --wait=2s --from @-5m -0 x.kek",
        "info --json x.kek",
        "ls --json .",
        "verify a b c",
        "seal x.kek",
        "demo --readers 3",
        "completions bash",
        "man",
        "help write",
        "--version",
    ];
    for (i, line) in lines.into_iter().enumerate() {
        let arguments = format!("\0{}", line.replace(' ', "\0"));
        std::fs::write(directory.join("command").join(format!("line-{i}")), arguments)?;
        for (j, word) in line.split([' ', '=']).enumerate() {
            std::fs::write(directory.join("command").join(format!("word-{i}-{j}")), format!("\x05{word}"))?;
        }
    }
    Ok(())
}

/// The image, written down as `open_scan` reads it.
fn pieces(image: &[u8], seed: &mut Vec<u8>) {
    let mut rest = image;
    while !rest.is_empty() {
        let zeros = rest.iter().take_while(|byte| **byte == 0).count();
        let at = image.len() - rest.len();
        if zeros >= 8 {
            // To a multiple of a page, if the zeros go so far; else words.
            let to_page = at.next_multiple_of(4096) - at;
            let step = if at < 4092 && at + zeros == 4092 {
                seed.push(255);
                zeros
            } else if to_page > 0 && zeros >= to_page {
                seed.push(199);
                to_page
            } else {
                let words = (zeros / 8).min(31);
                seed.push(223 + words as u8);
                8 * words
            };
            rest = &rest[step..];
        } else {
            let len = rest.windows(8).position(|window| window == [0; 8]).unwrap_or(rest.len()).clamp(1, 192);
            seed.push(len as u8 - 1);
            seed.extend_from_slice(&rest[..len]);
            rest = &rest[len..];
        }
    }
}
