//! Typed records: channels whose records are all values of one type.
//!
//! ```text
//! value --Codec::encode--> payload --stages--> record --stages undone--> payload --Codec::decode--> view
//! ```
//!
//! A [`Codec`] says how values become payloads and back, and what the header records of them: a content type, the name of
//! the type, and for structs of a fixed [`Layout`] where their fields lie. [`Typed`] is a writer, a channel, a reader or a
//! journal whose records go through a codec; it is made by asking one for its type, and another type than the recorded one
//! is refused.
//!
//! - [`Plain`] (feature `zerocopy`): structs of a fixed layout, written in place and read in place.
//! - [`Postcard`] (feature `serde`): whatever [serde](https://serde.rs) can take apart.
//!
//! Nothing here is unsafe, and what is no value is an error of its own, [`ValueError`], behind which the reader goes on. How far a
//! codec may be trusted with any bytes it says itself.
//!
//! # Example: prices, in place
//!
//! ```
//! # #[cfg(feature = "zerocopy")] {
//! use kekbit::typed::Plain;
//! use kekbit::{Channel, Timestamp, Writer};
//! use zerocopy::little_endian::{F64, U32};
//! use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
//!
//! #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
//! #[repr(C)]
//! struct Price { bid: F64, ask: F64, size: U32, symbol: [u8; 4] }
//!
//! kekbit::record_type!(Price as "market.price.v1" { bid, ask, size, symbol as text });
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("prices.kek");
//! let mut prices = Writer::options().stage(Timestamp::nanos()).create_typed::<Plain<Price>>(&path)?;
//! prices.append(&Price { bid: 187.5.into(), ask: 187.6.into(), size: 10.into(), symbol: *b"AAPL" })?;
//! prices.close()?;
//!
//! let channel = Channel::open(&path)?.typed::<Plain<Price>>()?;
//! for record in channel.records() {
//!     let record = record?;
//!     println!("{:?} bid {}", record.timestamp(), record.value.bid);
//! }
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod layout;
#[cfg(feature = "zerocopy")]
mod plain;
#[cfg(feature = "serde")]
mod postcard;
mod reading;
mod records;
mod writing;

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use layout::{FieldLayout, Layout, LayoutError, Scalar, ScalarKind, Value};
#[cfg(feature = "zerocopy")]
pub use plain::Plain;
#[cfg(feature = "serde")]
pub use postcard::Postcard;
pub use reading::{TypedError, TypedRecord, ValueError};
pub use records::{
    TypedRecords, TypedRecordsBack, TypedSharedRecord, TypedSharedRecords, TypedSharedRecordsBack,
};
pub use writing::{TypedBatch, TypedTurn};

use crate::encode::EncodeError;
use crate::handler::StageInfo;
use crate::layout::attributes::Attributes;

/// A name for what a type's records are, by which a reader knows that it means the same; made by
/// [`record_type!`](crate::record_type).
pub trait RecordType {
    /// The name, with a version: whoever changes what the bytes mean changes it.
    ///
    /// A channel has one type for good. A journal keeps its own, from one opening to the next and whoever appends to it; under a
    /// new name it is refused as [`JournalError::Type`](crate::JournalError::Type), until a writer says by
    /// [`JournalOptions::replace_type`](crate::JournalOptions::replace_type) that another type begins.
    const NAME: &'static str;

    /// The fields of a struct with a fixed layout, as far as they are told, so that tools can show them.
    fn fields() -> Vec<FieldLayout> {
        Vec::new()
    }
}

/// How the values of one type become payloads, and payloads such values.
///
/// # Example: numbers as text
///
/// ```
/// use kekbit::EncodeError;
/// use kekbit::typed::Codec;
///
/// struct Decimal;
///
/// impl Codec for Decimal {
///     type Value = u64;
///     type View<'p> = u64;
///     const CONTENT_TYPE: &'static str = "text/plain";
///
///     fn name() -> String {
///         "decimal".into()
///     }
///
///     fn encode<'v>(value: &'v u64, scratch: &'v mut Vec<u8>) -> Result<&'v [u8], EncodeError> {
///         scratch.clear();
///         scratch.extend_from_slice(value.to_string().as_bytes());
///         Ok(scratch)
///     }
///
///     fn decode(payload: &[u8]) -> Result<u64, EncodeError> {
///         Ok(std::str::from_utf8(payload)?.parse()?)
///     }
/// }
///
/// # let dir = tempfile::tempdir()?;
/// let mut numbers = kekbit::Writer::options().create_typed::<Decimal>(dir.path().join("numbers.kek"))?;
/// numbers.append(&42)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Codec {
    /// What is appended.
    type Value: ?Sized;
    /// What a payload is read as; it may borrow from it.
    type View<'p>;
    /// What kind of bytes the payloads are: the content type that the header records.
    const CONTENT_TYPE: &'static str;
    /// What the address of a payload must be a multiple of, a power of two up to 8, for [`Codec::decode`] to succeed.
    const ALIGN: usize = 1;

    /// The name of the type: the schema that the header records.
    fn name() -> String;

    /// Where its fields lie, if each payload has them in the same places.
    fn layout() -> Option<Layout> {
        None
    }

    /// The payload of `value`: bytes that it has itself, or that were put into `scratch`, whose content is left over from
    /// the value before.
    ///
    /// # Errors
    ///
    /// Whatever stands in the way; then nothing is appended.
    fn encode<'v>(value: &'v Self::Value, scratch: &'v mut Vec<u8>) -> Result<&'v [u8], EncodeError>;

    /// The value in `payload`, which may be any bytes.
    ///
    /// # Errors
    ///
    /// Why it is none.
    fn decode(payload: &[u8]) -> Result<Self::View<'_>, EncodeError>;
}

/// A writer, a channel, a reader or a journal whose records are all values of the codec `K`; made by `create_typed` and
/// by `typed` of each of these.
///
/// It dereferences to what it was made of, to look at; what changes that goes through [`Typed::inner_mut`].
pub struct Typed<T, K> {
    inner: T,
    scratch: Vec<u8>,
    /// First sequence of the channel of a journal whose type has been compared last.
    compared: Option<u64>,
    codec: PhantomData<fn() -> K>,
}

/// Why something is no channel of a type.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TypeError {
    /// Its records are something else.
    #[error("{}the records are {recorded}, not {expected}: take the type that they were written with, or the bytes as they are", of(path.as_deref()))]
    Other {
        /// The channel, where it is known.
        path: Option<PathBuf>,
        /// What the header records.
        recorded: String,
        /// What was asked for.
        expected: String,
    },
    /// The records of a journal are something else than those that were to follow.
    #[error("{}: the records are {recorded}, and those that were to follow are {expected}: append what they are (open_typed, record_type), or let another type begin here (replace_type)", path.display())]
    Journal {
        /// The newest channel that has records.
        path: PathBuf,
        /// What its header records.
        recorded: String,
        /// What was to follow.
        expected: String,
    },
    /// The stages put the payload where a value of the type cannot be read in place.
    #[error("{}{expected} begins at a multiple of {align} bytes, and the channel's stages put it elsewhere: take types of zerocopy::little_endian, which may begin anywhere", of(path.as_deref()))]
    Unaligned {
        /// The channel, where it is known.
        path: Option<PathBuf>,
        /// What was asked for.
        expected: String,
        /// What its address must be a multiple of.
        align: usize,
    },
    /// A copying reader does not keep a payload where a value of the type can be read in place, whatever the stages.
    #[error("{}: {expected} begins at a multiple of {align} bytes, and a copying reader may put it anywhere: take types of zerocopy::little_endian, which may begin anywhere", path.display())]
    UnalignedCopy {
        /// The channel.
        path: PathBuf,
        /// What was asked for.
        expected: String,
        /// What its address must be a multiple of.
        align: usize,
    },
}

/// The path in front of a message.
fn of(path: Option<&Path>) -> String {
    path.map(|path| format!("{}: ", path.display())).unwrap_or_default()
}

/// What a header records of the type of its records, as words: `` `application/x-postcard` of `orders.v1` ``.
fn words(content_type: Option<&str>, name: Option<&str>, layout: Option<&str>) -> String {
    let words = [
        content_type.map(|content_type| format!("`{content_type}`")),
        name.map(|name| format!("of `{name}`")),
        layout.map(|layout| format!("({layout})")),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    if words.is_empty() { "of no type".into() } else { words.join(" ") }
}

/// Lets a header say that its records are those of `K`.
pub(crate) fn record<K: Codec>(attributes: &mut Attributes) {
    attributes.content_type = Some(K::CONTENT_TYPE.into());
    attributes.schema = Some(K::name());
    attributes.layout = K::layout().map(|layout| layout.to_string());
}

/// Compares what a header records with `K`.
pub(crate) fn compare<K: Codec>(attributes: &Attributes, path: Option<&Path>) -> Result<(), TypeError> {
    let mut expected = Attributes::default();
    record::<K>(&mut expected);
    if !are_same(attributes, &expected) {
        let (recorded, expected) = (describe(attributes), describe(&expected));
        return Err(TypeError::Other { path: path.map(Path::to_owned), recorded, expected });
    }
    if K::ALIGN > 1 && !is_aligned(&attributes.stages, K::ALIGN) {
        let (expected, align) = (describe(&expected), K::ALIGN);
        return Err(TypeError::Unaligned { path: path.map(Path::to_owned), expected, align });
    }
    Ok(())
}

/// Lets the header of a journal's next channels go on from that of its newest one, at `path`: a content type that stands alone is
/// handed down to one that says nothing. Anything else has to be the same.
pub(crate) fn go_on(newest: &Attributes, next: &mut Attributes, path: &Path) -> Result<(), TypeError> {
    let says_nothing = next.content_type.is_none() && next.schema.is_none() && next.layout.is_none();
    if says_nothing && newest.schema.is_none() && newest.layout.is_none() {
        next.content_type.clone_from(&newest.content_type);
        return Ok(());
    }
    if are_same(newest, next) {
        return Ok(());
    }
    let (recorded, expected) = (describe(newest), describe(next));
    Err(TypeError::Journal { path: path.to_owned(), recorded, expected })
}

/// Whether two headers record the same type.
fn are_same(a: &Attributes, b: &Attributes) -> bool {
    let key = |a: &Attributes| (a.content_type.clone(), a.schema.clone());
    key(a) == key(b) && same_layout(a.layout.as_deref(), b.layout.as_deref())
}

fn describe(attributes: &Attributes) -> String {
    words(attributes.content_type.as_deref(), attributes.schema.as_deref(), attributes.layout.as_deref())
}

/// Whether two layouts mean the same bytes, as far as both tell.
fn same_layout(a: Option<&str>, b: Option<&str>) -> bool {
    match (a.map(str::parse::<Layout>), b.map(str::parse::<Layout>)) {
        (Some(Ok(a)), Some(Ok(b))) => a.agrees_with(&b),
        (None, None) => true,
        // One that cannot be parsed may be that of a later version.
        _ => a == b,
    }
}

/// Whether the stages keep a payload at a multiple of `align`, a power of two up to 8: the bytes in front of a frame's
/// payload are, those of a stage may not be, and what stands in place of it is put together elsewhere.
fn is_aligned(stages: &[StageInfo], align: usize) -> bool {
    stages.iter().all(|stage| !stage.replaces && (stage.prefix_len as usize).is_multiple_of(align))
}

impl<T, K> Typed<T, K> {
    fn new(inner: T) -> Typed<T, K> {
        Typed { inner, scratch: Vec::new(), compared: None, codec: PhantomData }
    }

    /// What it was made of, to do with it what needs no type. Records that are appended to it as bytes are not looked at.
    pub fn inner_mut(&mut self) -> &mut T {
        // It may be exchanged for another.
        self.compared = None;
        &mut self.inner
    }

    /// What it was made of.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T, K> Deref for Typed<T, K> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: Clone, K> Clone for Typed<T, K> {
    fn clone(&self) -> Self {
        Typed { compared: self.compared, ..Typed::new(self.inner.clone()) }
    }
}

impl<T: fmt::Debug, K> fmt::Debug for Typed<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Typed").field(&self.inner).finish()
    }
}

/// Names a type for the headers of channels that hold it, and tells tools where its fields lie.
///
/// `record_type!(Type as "name" { field, field as text, ... })`, or without the braces for a type that has no fixed layout,
/// or whose fields nobody need see. Fields are numbers, and arrays of numbers; `as text` shows an array of bytes as text, up to the first
/// zero. Fields that are none of these are left out of the list.
///
/// # Example: of a fixed layout
///
/// ```
/// use kekbit::typed::RecordType;
///
/// #[repr(C)]
/// struct Price { bid: f64, ask: f64, size: u32, symbol: [u8; 4] }
///
/// kekbit::record_type!(Price as "market.price.v1" { bid, ask, size, symbol as text });
///
/// let fields: Vec<String> = Price::fields().iter().map(ToString::to_string).collect();
/// assert_eq!(fields, ["bid=f64@0", "ask=f64@8", "size=u32@16", "symbol=text[4]@20"]);
/// ```
///
/// # Example: a type of another crate
///
/// A name can be given to a type of one's own only, so `Vec<u8>`, a tuple, or what another crate brings is put into a newtype:
///
/// ```
/// struct Trade((u64, f64));
/// struct Document(Vec<u8>);
///
/// kekbit::record_type!(Trade as "market.trade.v1");
/// kekbit::record_type!(Document as "archive.document.v1");
/// ```
///
/// Without it the compiler says that only traits defined in the current crate can be implemented for such types:
///
/// ```compile_fail,E0117
/// kekbit::record_type!(Vec<u8> as "archive.document.v1");
/// ```
///
/// # Example: a generic type
///
/// It takes no type parameters: each type that is written gets a name of its own, since other arguments are other bytes.
///
/// ```
/// #[repr(C)]
/// struct Span<T> { from: T, to: T }
///
/// kekbit::record_type!(Span<u64> as "span.u64.v1" { from, to });
/// kekbit::record_type!(Span<i32> as "span.i32.v1" { from, to });
/// ```
///
/// Where that is not enough [`RecordType`](crate::typed::RecordType) is implemented by hand.
#[macro_export]
macro_rules! record_type {
    ($type:ty as $name:literal) => {
        impl $crate::typed::RecordType for $type {
            const NAME: &'static str = $name;
        }
    };
    ($type:ty as $name:literal { $($field:ident $(as $text:ident)?),* $(,)? }) => {
        impl $crate::typed::RecordType for $type {
            const NAME: &'static str = $name;

            fn fields() -> ::std::vec::Vec<$crate::typed::FieldLayout> {
                ::std::vec![$(
                    $crate::typed::FieldLayout::of(
                        ::core::stringify!($field),
                        ::core::mem::offset_of!($type, $field),
                        |value: &$type| &value.$field,
                    )$(.$text())?
                ),*]
            }
        }
    };
}
