//! Undoing compression, written down from FORMAT.md alone. What the library makes is compared with what this makes.

/// What the stage was given when it made `stored`: its prefix and its body. `None` if no stage can have made it.
pub fn undo(stored: &[u8]) -> Option<Vec<u8>> {
    let (length, block) = stored.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 {
        return Some(block.to_vec());
    }
    if length > (255 * block.len()).min((1 << 28) - 1) {
        return None;
    }
    let (mut out, mut at) = (Vec::new(), 0);
    loop {
        let token = *block.get(at)?;
        at += 1;
        let literals = more(block, &mut at, token >> 4)?;
        out.extend_from_slice(block.get(at..at + literals)?);
        at += literals;
        if at == block.len() {
            return (literals > 0 && out.len() == length).then_some(out);
        }
        let distance = usize::from(*block.get(at)?) | usize::from(*block.get(at + 1)?) << 8;
        at += 2;
        let len = 4 + more(block, &mut at, token & 15)?;
        if distance == 0 || distance > out.len() || out.len() + len > length {
            return None;
        }
        for _ in 0..len {
            out.push(out[out.len() - distance]);
        }
    }
}

fn more(block: &[u8], at: &mut usize, half: u8) -> Option<usize> {
    let mut length = usize::from(half);
    let mut last = if half == 15 { 255 } else { 0 };
    while last == 255 {
        last = *block.get(*at)?;
        *at += 1;
        length += usize::from(last);
    }
    Some(length)
}
