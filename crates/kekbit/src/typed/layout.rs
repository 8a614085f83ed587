//! Where the fields of a struct with a fixed layout lie, as a header records it and tools show it.
//!
//! ```text
//! 24:8 bid=f64@0 ask=f64@8 size=u32@16 symbol=text[4]@20
//! |  |     |   |                            |
//! |  |     |   offset in bytes              so many of them
//! |  |     kind: u8 to u64, i8 to i64, f32, f64, or text (bytes up to the first zero), all little endian
//! |  alignment
//! bytes of a record
//! ```
//!
//! It comes from a file, so everything is bounded when it is parsed: fields lie inside the record.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Where the fields of a record of fixed length lie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    size: usize,
    align: usize,
    fields: Vec<FieldLayout>,
}

/// Where a field lies, and what it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldLayout {
    name: String,
    kind: ScalarKind,
    /// Of an array; a single number has none.
    count: Option<usize>,
    offset: usize,
}

/// What a field consists of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "they are called as in Rust")]
pub enum ScalarKind {
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
    /// Bytes up to the first zero.
    Text,
}

/// What is in a field.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Value {
    /// A number without a sign.
    Unsigned(u64),
    /// A number with one.
    Signed(i64),
    /// A number of 32 bits with a fraction.
    Single(f32),
    /// A number of 64 bits with a fraction.
    Double(f64),
    /// Text; what is no UTF-8 is replaced.
    Text(String),
    /// An array.
    List(Vec<Value>),
}

/// Why a text describes no layout.
#[derive(Debug, Error)]
#[error("`{text}` is no layout of a record: {what}")]
pub struct LayoutError {
    text: String,
    what: &'static str,
}

/// A type that a field may have: numbers, and arrays of numbers.
pub trait Scalar {
    /// What it consists of.
    const KIND: ScalarKind;
    /// How many of them, for an array.
    const COUNT: Option<usize> = None;
}

macro_rules! scalars {
    ($($type:ty: $kind:ident;)*) => {$(
        impl Scalar for $type {
            const KIND: ScalarKind = ScalarKind::$kind;
        }

        impl<const N: usize> Scalar for [$type; N] {
            const KIND: ScalarKind = ScalarKind::$kind;
            const COUNT: Option<usize> = Some(N);
        }
    )*};
}

scalars! {
    u8: U8;
    u16: U16;
    u32: U32;
    u64: U64;
    i8: I8;
    i16: I16;
    i32: I32;
    i64: I64;
    f32: F32;
    f64: F64;
}

#[cfg(feature = "zerocopy")]
scalars! {
    zerocopy::little_endian::U16: U16;
    zerocopy::little_endian::U32: U32;
    zerocopy::little_endian::U64: U64;
    zerocopy::little_endian::I16: I16;
    zerocopy::little_endian::I32: I32;
    zerocopy::little_endian::I64: I64;
    zerocopy::little_endian::F32: F32;
    zerocopy::little_endian::F64: F64;
}

const KINDS: [(ScalarKind, &str, usize); 11] = [
    (ScalarKind::U8, "u8", 1),
    (ScalarKind::U16, "u16", 2),
    (ScalarKind::U32, "u32", 4),
    (ScalarKind::U64, "u64", 8),
    (ScalarKind::I8, "i8", 1),
    (ScalarKind::I16, "i16", 2),
    (ScalarKind::I32, "i32", 4),
    (ScalarKind::I64, "i64", 8),
    (ScalarKind::F32, "f32", 4),
    (ScalarKind::F64, "f64", 8),
    (ScalarKind::Text, "text", 1),
];

impl ScalarKind {
    /// As it is called in a layout, and its bytes.
    fn row(self) -> (&'static str, usize) {
        let row = KINDS.iter().find(|row| row.0 == self).expect("every kind has a row");
        (row.1, row.2)
    }

    /// The number in `bytes`, of which there are as many as it has.
    fn value(self, bytes: &[u8]) -> Value {
        let mut padded = [0; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        let unsigned = u64::from_le_bytes(padded);
        // Moved to the upper end and back, so that the sign fills what was padded.
        let unused = 64 - 8 * bytes.len() as u32;
        match self {
            ScalarKind::U8 | ScalarKind::U16 | ScalarKind::U32 | ScalarKind::U64 => Value::Unsigned(unsigned),
            ScalarKind::I8 | ScalarKind::I16 | ScalarKind::I32 | ScalarKind::I64 => {
                Value::Signed((unsigned << unused).cast_signed() >> unused)
            }
            ScalarKind::F32 => Value::Single(f32::from_bits(unsigned as u32)),
            ScalarKind::F64 => Value::Double(f64::from_bits(unsigned)),
            ScalarKind::Text => text(bytes),
        }
    }
}

fn text(bytes: &[u8]) -> Value {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    Value::Text(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

impl Layout {
    /// The layout of `T`, of whose fields these are told.
    pub fn of<T>(fields: Vec<FieldLayout>) -> Layout {
        Layout { size: size_of::<T>(), align: align_of::<T>(), fields }
    }

    /// Bytes of a record.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The fields, as far as they are told.
    pub fn fields(&self) -> &[FieldLayout] {
        &self.fields
    }

    /// Whether records of one are records of the other, as far as both tell: names do not matter.
    pub(crate) fn agrees_with(&self, other: &Layout) -> bool {
        let places = |layout: &Layout| -> Vec<_> {
            // Text is a way to look at bytes.
            let kind = |kind| if kind == ScalarKind::Text { ScalarKind::U8 } else { kind };
            layout.fields.iter().map(|field| (kind(field.kind), field.count, field.offset)).collect()
        };
        (self.size, self.align) == (other.size, other.align)
            && (self.fields.is_empty() || other.fields.is_empty() || places(self) == places(other))
    }
}

impl FieldLayout {
    /// The field `name` of `T` at `offset`, which `field` leads to.
    #[doc(hidden)]
    pub fn of<T, S: Scalar>(name: &str, offset: usize, field: fn(&T) -> &S) -> FieldLayout {
        // It is there for its type.
        let _ = field;
        let name = name.strip_prefix("r#").unwrap_or(name).to_owned();
        FieldLayout { name, kind: S::KIND, count: S::COUNT, offset }
    }

    /// The same, shown as text.
    ///
    /// # Panics
    ///
    /// Unless it is an array of bytes.
    #[doc(hidden)]
    #[must_use]
    pub fn text(self) -> FieldLayout {
        assert!(
            self.kind == ScalarKind::U8 && self.count.is_some(),
            "only an array of bytes is text: {self}"
        );
        FieldLayout { kind: ScalarKind::Text, ..self }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it consists of.
    pub fn kind(&self) -> ScalarKind {
        self.kind
    }

    /// Where it begins, in bytes.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// What it is in `record`; `None` if that is too short to have it. An array takes 32 bytes of memory for each of its elements:
    /// [`FieldLayout::values`] looks at them one by one.
    pub fn value(&self, record: &[u8]) -> Option<Value> {
        let (_, size) = self.kind.row();
        let bytes = record.get(self.offset..self.offset + self.len())?;
        Some(match (self.kind, self.count) {
            (ScalarKind::Text, _) => text(bytes),
            (kind, None) => kind.value(bytes),
            (kind, Some(_)) => Value::List(bytes.chunks_exact(size).map(|one| kind.value(one)).collect()),
        })
    }

    /// The elements of an array in `record`; `None` if it is none, or if `record` is too short to have it.
    pub fn values<'r>(&self, record: &'r [u8]) -> Option<impl Iterator<Item = Value> + use<'r>> {
        let (kind, size) = (self.kind, self.kind.row().1);
        self.count.filter(|_| kind != ScalarKind::Text)?;
        let bytes = record.get(self.offset..self.offset + self.len())?;
        Some(bytes.chunks_exact(size).map(move |one| kind.value(one)))
    }

    /// Its length in bytes. Bounded when it was parsed.
    fn len(&self) -> usize {
        self.kind.row().1 * self.count.unwrap_or(1)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.size, self.align)?;
        self.fields.iter().try_for_each(|field| write!(f, " {field}"))
    }
}

impl fmt::Display for FieldLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.kind.row().0)?;
        if let Some(count) = self.count {
            write!(f, "[{count}]")?;
        }
        write!(f, "@{}", self.offset)
    }
}

impl FromStr for Layout {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Layout, LayoutError> {
        parse(text).map_err(|what| LayoutError { text: text.to_owned(), what })
    }
}

fn parse(text: &str) -> Result<Layout, &'static str> {
    let mut words = text.split(' ');
    let first = words.next().and_then(|word| word.split_once(':'));
    let (size, align) = first.ok_or("it begins with size and alignment, as in `24:8`")?;
    let (size, align): (usize, usize) = (number(size)?, number(align)?);
    if !align.is_power_of_two() || align > 8 {
        return Err("its alignment is not 1, 2, 4 or 8");
    }
    let fields = words.map(|word| field(word, size)).collect::<Result<Vec<_>, _>>()?;
    if fields.iter().map(FieldLayout::len).sum::<usize>() > size {
        return Err("its fields have more bytes than the record");
    }
    Ok(Layout { size, align, fields })
}

fn field(word: &str, size: usize) -> Result<FieldLayout, &'static str> {
    let (name, rest) = word.rsplit_once('=').ok_or("a field is written as `name=kind@offset`")?;
    let (kind, offset) = rest.split_once('@').ok_or("a field has no offset")?;
    let (kind, count) = match kind.strip_suffix(']').and_then(|kind| kind.split_once('[')) {
        Some((kind, count)) => (kind, Some(number(count)?)),
        None => (kind, None),
    };
    let (kind, _, bytes) = KINDS.iter().find(|row| row.1 == kind).ok_or("a field has an unknown kind")?;
    let offset: usize = number(offset)?;
    let len = count.unwrap_or(1).checked_mul(*bytes);
    if len.and_then(|len| len.checked_add(offset)).is_none_or(|end| end > size) {
        return Err("a field reaches past the end of the record");
    }
    Ok(FieldLayout { name: name.to_owned(), kind: *kind, count, offset })
}

/// A number of bytes: no record has more than 2^28.
fn number(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|number| *number <= 1 << 28).ok_or("a number is none, or too large")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    struct Price {
        bid: f64,
        size: u32,
        symbol: [u8; 4],
        depth: [i16; 3],
        r#type: i8,
    }

    crate::record_type!(Price as "price" { bid, size, symbol as text, depth, r#type });

    fn price() -> Layout {
        Layout::of::<Price>(<Price as crate::typed::RecordType>::fields())
    }

    #[test]
    fn a_layout_survives_a_round_trip() {
        let text = "24:8 bid=f64@0 size=u32@8 symbol=text[4]@12 depth=i16[3]@16 type=i8@22";
        assert_eq!(price().to_string(), text);
        assert_eq!(text.parse::<Layout>().unwrap(), price());
    }

    #[test]
    fn values_are_found_in_their_places() {
        let mut record = [0; 24];
        record[..8].copy_from_slice(&1.5_f64.to_le_bytes());
        record[8..12].copy_from_slice(&7_u32.to_le_bytes());
        record[12..14].copy_from_slice(b"AB");
        record[16..18].copy_from_slice(&(-2_i16).to_le_bytes());
        record[22] = 0x80;
        let values: Vec<_> = price().fields().iter().map(|field| field.value(&record).unwrap()).collect();
        let list = Value::List([-2, 0, 0].map(Value::Signed).into());
        let text = Value::Text("AB".into());
        assert_eq!(values, [Value::Double(1.5), Value::Unsigned(7), text, list, Value::Signed(-128)]);
        assert_eq!(price().fields()[4].value(&record[..22]), None);
    }

    #[test]
    fn what_is_no_layout_is_refused() {
        for text in [
            "",
            "24",
            "24:",
            ":8",
            "24:3",
            "24:16",
            "x:8",
            "24:8 ",
            "24:8 a",
            "24:8 a=u8",
            "24:8 a=u9@0",
            "24:8 a=u64@17",
            "24:8 a=u64[4]@0",
            "24:8 a=u8[x]@0",
            "24:8 a=u8[@0",
            "24:8 a=u64[268435456]@0",
            "999999999999:8",
            "24:8 a=u8@18446744073709551615",
            "24:8 a=u64@0 b=u64@8 c=u64@16 d=u8@0",
            "24:8  a=u8@0",
        ] {
            assert!(text.parse::<Layout>().is_err(), "{text}");
        }
    }

    #[test]
    fn layouts_agree_if_records_mean_the_same() {
        let agree =
            |a: &str, b: &str| a.parse::<Layout>().unwrap().agrees_with(&b.parse::<Layout>().unwrap());
        assert!(agree("8:8 a=u64@0", "8:8 b=u64@0") && agree("8:8", "8:8 b=u64@0"));
        assert!(agree("8:1 a=u8[8]@0", "8:1 a=text[8]@0"));
        assert!(!agree("8:8", "16:8") && !agree("8:8", "8:4") && !agree("8:8 a=u64@0", "8:8 a=i64@0"));
        assert!(!agree("8:8 a=u32@0 b=u32@4", "8:8 a=u32@4 b=u32@0"));
    }
}
