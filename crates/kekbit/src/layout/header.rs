//! The header: written once, before the file has its name, and never changed in a channel's life.
//!
//! ```text
//! 0    magic "*KEKBIT*"        64   first sequence          184  trail step
//! 8    version                 72   salt (16)               192  features: readers must know
//! 16   writer id               88   boot id (16)            200  features: sealers must know
//! 24   channel id              104  inode                   208  features: informational
//! 32   capacity                112  header  offset, length  216  length of the attributes
//! 40   max record length (4)   128  control offset, length  220  zero
//! 44   tick unit (1)           144  index   offset, length  224  attributes
//! 45   checksum kind (1)       160  data    offset, length  ...
//! 46   zero (2)                176  index interval          4092 CRC-32C of this page, these 4 bytes as zero
//! 48   timeout, in ticks
//! 56   creation time, nanoseconds since the Unix epoch
//! ```
//!
//! Magic, version and the two ids stand where version 1.0 (kekbit 0.1 to 0.3) has them: it refuses our version
//! cleanly, and we recognise its files.

use super::attributes::Attributes;
use super::control::TRAIL_STEP;
use super::entry::{ENTRY, index_slots};
use super::frame::{Checksum, MAX_CAPACITY, MIN_CAPACITY, Salt, longest_record};
use super::{PAGE, crc, put, round_up, u32_at, u64_at};
use crate::error::FormatError;
use crate::time::TickUnit;

/// The version of the original's files, which have the same magic.
pub(crate) const LEGACY: u64 = 1 << 48;
/// The first eight bytes of every channel file.
pub(crate) const MAGIC: [u8; 8] = *b"*KEKBIT*";
/// Version 2.0 as the header tells it: major, minor, patch.
pub(crate) const VERSION: u64 = 2 << 48;
/// Feature that readers must know: the format is a draft, and may still change under the same version.
pub(crate) const DRAFT: u64 = 1;
/// Where the creation time, the first sequence and the salt lie.
const CREATED: usize = 56;
const FIRST_SEQUENCE: usize = 64;
pub(crate) const SALT: u64 = 72;
const ATTRIBUTES: usize = 224;
const CRC: usize = 4092;
/// Bytes that the attributes may take.
pub(crate) const ATTRIBUTES_MAX: usize = (CRC - ATTRIBUTES) & !7;
/// The largest sequence of a first record: no channel counts past the end of `u64`.
pub(crate) const MAX_FIRST_SEQUENCE: u64 = 1 << 63;

/// Bytes of data between two entries of the index, unless a frame is longer: as few as the one page allows that each index has, but not
/// fewer than between two entries of the trail. Of channels of 63 MiB and more, 1 MiB.
pub(crate) fn index_interval(capacity: u64) -> u64 {
    /// How often a page holds an entry twice, besides the first and the last.
    const IN_A_PAGE: u64 = (PAGE / ENTRY - 2) / 2;
    round_up(capacity.div_ceil(IN_A_PAGE), PAGE).clamp(TRAIL_STEP, 1 << 20)
}

/// Where the regions of a file lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Regions {
    pub(crate) control: u64,
    pub(crate) index: u64,
    pub(crate) index_len: u64,
    pub(crate) data: u64,
}

impl Regions {
    pub(crate) fn for_capacity(capacity: u64, interval: u64) -> Regions {
        let index = 2 * PAGE;
        let index_len = round_up(index_slots(capacity, interval) * ENTRY, PAGE);
        Regions { control: PAGE, index, index_len, data: index + index_len }
    }
}

/// The header of a channel, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) version: u64,
    pub(crate) writer_id: u64,
    pub(crate) channel_id: u64,
    pub(crate) capacity: u64,
    pub(crate) max_record_len: u32,
    pub(crate) tick: TickUnit,
    pub(crate) checksum: Checksum,
    /// In ticks; zero is none.
    pub(crate) timeout: u64,
    /// Nanoseconds since the Unix epoch.
    pub(crate) created: u64,
    pub(crate) first_sequence: u64,
    pub(crate) salt: [u8; 16],
    pub(crate) boot_id: [u8; 16],
    pub(crate) inode: u64,
    pub(crate) regions: Regions,
    pub(crate) index_interval: u64,
    pub(crate) features_reader: u64,
    pub(crate) features_sealer: u64,
    pub(crate) features_info: u64,
    pub(crate) attributes: Attributes,
}

impl Header {
    pub(crate) fn mixing(&self) -> Salt {
        Salt::new(self.salt)
    }

    /// The header as a page, or `None` if the attributes do not fit.
    pub(crate) fn encode(&self) -> Option<[u8; PAGE as usize]> {
        let mut b = [0; PAGE as usize];
        put(&mut b, 0, MAGIC);
        put(&mut b, 8, self.version.to_le_bytes());
        put(&mut b, 16, self.writer_id.to_le_bytes());
        put(&mut b, 24, self.channel_id.to_le_bytes());
        put(&mut b, 32, self.capacity.to_le_bytes());
        put(&mut b, 40, self.max_record_len.to_le_bytes());
        put(&mut b, 44, [self.tick as u8, self.checksum as u8]);
        put(&mut b, 48, self.timeout.to_le_bytes());
        put(&mut b, CREATED, self.created.to_le_bytes());
        put(&mut b, FIRST_SEQUENCE, self.first_sequence.to_le_bytes());
        put(&mut b, SALT as usize, self.salt);
        put(&mut b, 88, self.boot_id);
        put(&mut b, 104, self.inode.to_le_bytes());
        let r = &self.regions;
        let table = [0, PAGE, r.control, PAGE, r.index, r.index_len, r.data, self.capacity];
        for (i, word) in table.into_iter().enumerate() {
            put(&mut b, 112 + 8 * i, u64::to_le_bytes(word));
        }
        put(&mut b, 176, self.index_interval.to_le_bytes());
        put(&mut b, 184, TRAIL_STEP.to_le_bytes());
        put(&mut b, 192, self.features_reader.to_le_bytes());
        put(&mut b, 200, self.features_sealer.to_le_bytes());
        put(&mut b, 208, self.features_info.to_le_bytes());
        let attributes = self.attributes.encode()?;
        put(&mut b, 216, u32::try_from(attributes.len()).ok()?.to_le_bytes());
        b.get_mut(ATTRIBUTES..ATTRIBUTES + attributes.len())
            .filter(|a| a.len() <= ATTRIBUTES_MAX)?
            .copy_from_slice(&attributes);
        let crc = checksum(&b);
        put(&mut b, CRC, crc.to_le_bytes());
        Some(b)
    }

    /// The header in `bytes`, which may be shorter than a page if the file is.
    ///
    /// Everything that later code computes with is bounded here: after this, sums of regions do not overflow.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Header, FormatError> {
        if bytes.len() < 16 || bytes[..8] != MAGIC {
            return Err(FormatError::NotAChannel);
        }
        let version = u64_at(bytes, 8);
        if version == LEGACY {
            return Err(FormatError::Legacy);
        }
        if version >> 48 != VERSION >> 48 {
            return Err(FormatError::Version {
                major: (version >> 48) as u16,
                minor: (version >> 32) as u16,
            });
        }
        if bytes.len() < PAGE as usize {
            return Err(FormatError::Header("it is cut short"));
        }
        if checksum(bytes) != u32_at(bytes, CRC) {
            return Err(FormatError::Header("its checksum does not match"));
        }
        let features_reader = u64_at(bytes, 192);
        if features_reader & !DRAFT != 0 {
            return Err(FormatError::Features { unknown: features_reader & !DRAFT });
        }
        let capacity = u64_at(bytes, 32);
        if !(MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity) || !capacity.is_multiple_of(PAGE) {
            return Err(FormatError::Header("its capacity is out of range"));
        }
        let max_record_len = u32_at(bytes, 40);
        if u64::from(max_record_len) > longest_record(capacity) {
            return Err(FormatError::Header("its record length is larger than its capacity allows"));
        }
        let word = |i: usize| u64_at(bytes, 112 + 8 * i);
        let regions = Regions { control: word(2), index: word(4), index_len: word(5), data: word(6) };
        let in_order = word(0) == 0
            && word(1) == PAGE
            && word(3) == PAGE
            && word(7) == capacity
            && (PAGE..MAX_CAPACITY).contains(&regions.control)
            && (regions.control + PAGE..MAX_CAPACITY).contains(&regions.index)
            && regions.index_len < MAX_CAPACITY
            && (regions.index + regions.index_len..MAX_CAPACITY).contains(&regions.data);
        if !in_order || [word(2), word(4), word(5), word(6)].iter().any(|w| w % PAGE != 0) {
            return Err(FormatError::Header("its regions overlap or are not aligned"));
        }
        let index_interval = u64_at(bytes, 176);
        if index_interval < PAGE {
            return Err(FormatError::Header("its index interval is too small"));
        }
        let first_sequence = u64_at(bytes, FIRST_SEQUENCE);
        if first_sequence > MAX_FIRST_SEQUENCE {
            return Err(FormatError::Header("its first sequence is out of range"));
        }
        let attributes_len = u32_at(bytes, 216) as usize;
        if attributes_len > ATTRIBUTES_MAX {
            return Err(FormatError::Header("its attributes are too long"));
        }
        let attributes = Attributes::decode(&bytes[ATTRIBUTES..ATTRIBUTES + attributes_len])
            .map_err(FormatError::Header)?;
        let (mut salt, mut boot_id) = ([0; 16], [0; 16]);
        salt.copy_from_slice(&bytes[SALT as usize..SALT as usize + 16]);
        boot_id.copy_from_slice(&bytes[88..104]);
        Ok(Header {
            version,
            writer_id: u64_at(bytes, 16),
            channel_id: u64_at(bytes, 24),
            capacity,
            max_record_len,
            tick: TickUnit::from_number(bytes[44]).ok_or(FormatError::Header("its tick unit is unknown"))?,
            checksum: Checksum::from_number(bytes[45])
                .ok_or(FormatError::Header("its kind of checksum is unknown"))?,
            timeout: u64_at(bytes, 48),
            created: u64_at(bytes, CREATED),
            first_sequence,
            salt,
            boot_id,
            inode: u64_at(bytes, 104),
            regions,
            index_interval,
            features_reader,
            features_sealer: u64_at(bytes, 200),
            features_info: u64_at(bytes, 208),
            attributes,
        })
    }
}

impl Header {
    /// Whether the header in `page`, valid or not, is one of kekbit's and says that its channel begins with the record `first`.
    pub(crate) fn says_first_sequence(page: &[u8], first: u64) -> bool {
        page.len() >= PAGE as usize && page[..8] == MAGIC && u64_at(page, FIRST_SEQUENCE) == first
    }

    /// The header in `page` as it was before it got another first sequence and creation time than these; `None` if there was no such.
    pub(crate) fn decode_as_of(page: &[u8], (first, created): (u64, u64)) -> Option<Header> {
        let mut page: [u8; PAGE as usize] = *page.first_chunk()?;
        put(&mut page, CREATED, created.to_le_bytes());
        put(&mut page, FIRST_SEQUENCE, first.to_le_bytes());
        Header::decode(&page).ok()
    }
}

fn checksum(page: &[u8]) -> u32 {
    crc::crc32c_padded(&page[..CRC])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(capacity: u64) -> Header {
        Header {
            version: VERSION,
            writer_id: 1,
            channel_id: 2,
            capacity,
            max_record_len: longest_record(capacity) as u32,
            tick: TickUnit::Nanos,
            checksum: Checksum::Crc32c,
            timeout: 5,
            created: 6,
            first_sequence: 7,
            salt: *b"sixteen of salt!",
            boot_id: [9; 16],
            inode: 11,
            regions: Regions::for_capacity(capacity, index_interval(capacity)),
            index_interval: index_interval(capacity),
            features_reader: DRAFT,
            features_sealer: 0,
            features_info: 0,
            attributes: Attributes::default(),
        }
    }

    #[test]
    fn an_index_takes_one_page_until_its_entries_are_a_mebibyte_apart() {
        for capacity in (1..64 << 20).step_by(PAGE as usize).chain([63 << 20, (63 << 20) + 1, 64 << 20]) {
            let interval = index_interval(capacity);
            let slots = 2 * (capacity / interval) + 2;
            assert!((TRAIL_STEP..=1 << 20).contains(&interval) && interval.is_multiple_of(PAGE));
            assert!(slots <= PAGE / ENTRY || interval == 1 << 20, "{slots} slots for {capacity} bytes");
        }
        assert_eq!(
            [4096, 10 << 20, 63 << 20, 1 << 40].map(index_interval),
            [64 << 10, 164 << 10, 1 << 20, 1 << 20]
        );
    }

    #[test]
    fn a_header_survives_a_round_trip() {
        for capacity in [MIN_CAPACITY, 1 << 30, MAX_CAPACITY] {
            let header = sample(capacity);
            assert_eq!(Header::decode(&header.encode().unwrap()).unwrap(), header);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_an_error() {
        let page = sample(1 << 20).encode().unwrap();
        for bit in 0..page.len() * 8 {
            let mut damaged = page;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&damaged).is_err(), "bit {bit}");
        }
        for len in 0..page.len() {
            assert!(Header::decode(&page[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn attributes_that_do_not_fit_are_refused() {
        let mut header = sample(1 << 20);
        header.attributes.schema = Some("x".repeat(ATTRIBUTES_MAX - 4));
        assert!(header.encode().is_some());
        header.attributes.schema = Some("x".repeat(ATTRIBUTES_MAX));
        assert!(header.encode().is_none());
    }
}
