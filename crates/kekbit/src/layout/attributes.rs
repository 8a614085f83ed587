//! Attributes: what a header says beyond its fixed fields, as tag, length and value.
//!
//! ```text
//! 0     2        4
//! +-----+--------+----------------+----------------+
//! | tag | length | value ...      | zeros to 8     |
//! +-----+--------+----------------+----------------+
//! ```
//!
//! A reader passes over tags that it does not know. The order of the stages is that of the file: the first is the
//! outermost, whose bytes come first in a record.

use super::{put, round_up, u16_at, u32_at, u64_at};
use crate::handler::StageInfo;

const CONTENT_TYPE: u16 = 1;
const SCHEMA: u16 = 2;
const STAGE: u16 = 3;
const USER: u16 = 4;
const JOURNAL: u16 = 5;
const LAYOUT: u16 = 6;

/// Bytes in front of a stage's name: id, version, flags, prefix, suffix, length of the name, zero.
const STAGE_FIXED: usize = 20;
/// Bytes of a journal's settings: bytes, age in nanoseconds, and count that are kept, seconds of a period, flags. Zero is none.
const SETTINGS: usize = 32;
/// Flag of a journal that keeps what a cursor has not passed.
const FOR_CURSORS: u32 = 1;

/// Flag of a stage that puts other bytes in place of what it is given.
const REPLACES: u16 = 1;

/// The attributes of a channel.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) content_type: Option<String>,
    pub(crate) schema: Option<String>,
    /// Where the fields of each record lie.
    pub(crate) layout: Option<String>,
    pub(crate) stages: Vec<StageInfo>,
    pub(crate) user: Vec<(String, String)>,
    pub(crate) journal: Option<Settings>,
}

/// What a journal does by itself; zero is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) retain_bytes: u64,
    /// In nanoseconds.
    pub(crate) retain_age: u64,
    pub(crate) retain_count: u64,
    /// Seconds of the period by which it rolls.
    pub(crate) period: u32,
    pub(crate) for_cursors: bool,
}

impl Attributes {
    /// The attributes as bytes, or `None` if a value does not fit the 16 bits of its length.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        if let Some(text) = &self.content_type {
            append(&mut out, CONTENT_TYPE, text.as_bytes())?;
        }
        if let Some(text) = &self.schema {
            append(&mut out, SCHEMA, text.as_bytes())?;
        }
        if let Some(text) = &self.layout {
            append(&mut out, LAYOUT, text.as_bytes())?;
        }
        for stage in &self.stages {
            let mut value = vec![0; STAGE_FIXED];
            put(&mut value, 0, stage.id.to_le_bytes());
            put(&mut value, 4, stage.version.to_le_bytes());
            put(&mut value, 6, (if stage.replaces { REPLACES } else { 0 }).to_le_bytes());
            put(&mut value, 8, stage.prefix_len.to_le_bytes());
            put(&mut value, 12, stage.suffix_len.to_le_bytes());
            put(&mut value, 16, u16::try_from(stage.name.len()).ok()?.to_le_bytes());
            value.extend_from_slice(stage.name.as_bytes());
            value.extend_from_slice(&stage.params);
            append(&mut out, STAGE, &value)?;
        }
        for (key, value) in &self.user {
            let mut pair = u16::try_from(key.len()).ok()?.to_le_bytes().to_vec();
            pair.extend_from_slice(key.as_bytes());
            pair.extend_from_slice(value.as_bytes());
            append(&mut out, USER, &pair)?;
        }
        if let Some(settings) = &self.journal {
            let mut value = vec![0; SETTINGS];
            put(&mut value, 0, settings.retain_bytes.to_le_bytes());
            put(&mut value, 8, settings.retain_age.to_le_bytes());
            put(&mut value, 16, settings.retain_count.to_le_bytes());
            put(&mut value, 24, settings.period.to_le_bytes());
            put(&mut value, 28, if settings.for_cursors { FOR_CURSORS } else { 0 }.to_le_bytes());
            append(&mut out, JOURNAL, &value)?;
        }
        Some(out)
    }

    /// The attributes in `bytes`, or what is wrong with them.
    pub(crate) fn decode(mut bytes: &[u8]) -> Result<Attributes, &'static str> {
        let mut out = Attributes::default();
        while !bytes.is_empty() {
            let head = bytes.get(..4).ok_or("an attribute is cut short")?;
            let (tag, len) = (u16_at(head, 0), usize::from(u16_at(head, 2)));
            let value = bytes.get(4..4 + len).ok_or("an attribute is longer than the attributes")?;
            match tag {
                CONTENT_TYPE => out.content_type = Some(text(value)?),
                SCHEMA => out.schema = Some(text(value)?),
                LAYOUT => out.layout = Some(text(value)?),
                STAGE => out.stages.push(stage(value)?),
                USER => {
                    let key_len =
                        usize::from(u16_at(value.get(..2).ok_or("a user attribute is cut short")?, 0));
                    let key = value.get(2..2 + key_len).ok_or("a user attribute's key is cut short")?;
                    out.user.push((text(key)?, text(&value[2 + key_len..])?));
                }
                // Too little says nothing.
                JOURNAL if value.len() >= SETTINGS => {
                    out.journal = Some(Settings {
                        retain_bytes: u64_at(value, 0),
                        retain_age: u64_at(value, 8),
                        retain_count: u64_at(value, 16),
                        period: u32_at(value, 24),
                        for_cursors: u32_at(value, 28) & FOR_CURSORS != 0,
                    });
                }
                _ => {}
            }
            bytes = bytes.get(round_up(4 + len as u64, 8) as usize..).unwrap_or(&[]);
        }
        Ok(out)
    }
}

fn append(out: &mut Vec<u8>, tag: u16, value: &[u8]) -> Option<()> {
    out.extend_from_slice(&tag.to_le_bytes());
    out.extend_from_slice(&u16::try_from(value.len()).ok()?.to_le_bytes());
    out.extend_from_slice(value);
    out.resize(round_up(out.len() as u64, 8) as usize, 0);
    Some(())
}

fn text(bytes: &[u8]) -> Result<String, &'static str> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "an attribute is not UTF-8")
}

fn stage(value: &[u8]) -> Result<StageInfo, &'static str> {
    let fixed = value.get(..STAGE_FIXED).ok_or("a stage attribute is cut short")?;
    let name_end = STAGE_FIXED + usize::from(u16_at(fixed, 16));
    let name = value.get(STAGE_FIXED..name_end).ok_or("a stage's name is cut short")?;
    let flags = u16_at(fixed, 6);
    if flags & !REPLACES != 0 {
        return Err("a stage has flags that this version does not know");
    }
    Ok(StageInfo {
        id: u32_at(fixed, 0),
        version: u16_at(fixed, 4),
        replaces: flags & REPLACES != 0,
        prefix_len: u32_at(fixed, 8),
        suffix_len: u32_at(fixed, 12),
        name: text(name)?,
        params: value[name_end..].to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Attributes {
        Attributes {
            content_type: Some("text/plain".into()),
            schema: Some("trades v3".into()),
            layout: Some("8:8 price=f64@0".into()),
            stages: vec![StageInfo {
                id: 77,
                version: 2,
                replaces: true,
                prefix_len: 8,
                suffix_len: 16,
                name: "seal".into(),
                params: vec![1, 2, 3],
            }],
            user: vec![("venue".into(), "XETR".into()), (String::new(), String::new())],
            journal: Some(Settings {
                retain_bytes: 1 << 40,
                retain_age: u64::MAX,
                retain_count: 3,
                period: 86400,
                for_cursors: true,
            }),
        }
    }

    #[test]
    fn attributes_survive_a_round_trip() {
        assert_eq!(Attributes::decode(&sample().encode().unwrap()), Ok(sample()));
    }

    #[test]
    fn unknown_tags_are_passed_over() {
        let mut bytes = vec![0xEE, 0x7E, 3, 0, 9, 9, 9, 0];
        bytes.extend(sample().encode().unwrap());
        assert_eq!(Attributes::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn no_cut_makes_decoding_panic() {
        let bytes = sample().encode().unwrap();
        for end in 0..bytes.len() {
            let _ = Attributes::decode(&bytes[..end]);
        }
    }
}
