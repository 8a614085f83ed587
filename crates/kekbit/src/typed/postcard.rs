//! Types of serde, in postcard's format.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Codec, RecordType};
use crate::encode::EncodeError;

/// The codec of types that [serde](https://serde.rs) takes apart, in [postcard](https://postcard.jamesmunns.com/wire-format)'s
/// format, which is compact and stable. It does not describe itself: what a record means is known to the type that its
/// name, told by [`record_type!`](crate::record_type), stands for.
///
/// **Files of strangers.** Bytes that are no value are an error, but postcard has no limits: a type that contains itself is read as
/// deep as the bytes say, until the stack is used up, and a sequence of elements without bytes (`Vec<()>`) as long as they say. Take
/// neither for a channel that somebody may write to whom you do not trust.
///
/// A value is read into an owned one. Whoever would rather borrow from the record takes its bytes and
/// `postcard::from_bytes`.
///
/// # Example: an enum with a list in it
///
/// ```
/// use kekbit::typed::Postcard;
/// use kekbit::{Channel, Start, Wait, Writer};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, PartialEq, Debug)]
/// enum Order {
///     Buy { symbol: String, lots: Vec<u32> },
///     Cancel(u64),
/// }
///
/// kekbit::record_type!(Order as "shop.order.v1");
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("orders.kek");
/// let mut orders = Writer::options().create_typed::<Postcard<Order>>(&path)?;
/// orders.append(&Order::Buy { symbol: "AAPL".into(), lots: vec![10, 5] })?;
/// orders.append(&Order::Cancel(7))?;
/// orders.close()?;
///
/// let mut reader = Channel::open(&path)?.typed::<Postcard<Order>>()?.reader(Start::Last(1))?;
/// let record = reader.next(Wait::backoff())?.expect("it is there");
/// assert_eq!((record.sequence(), record.value), (1, Order::Cancel(7)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Postcard<T>(PhantomData<fn() -> T>);

impl<T: RecordType + Serialize + DeserializeOwned> Codec for Postcard<T> {
    type Value = T;
    type View<'p> = T;
    const CONTENT_TYPE: &'static str = "application/x-postcard";

    fn name() -> String {
        T::NAME.into()
    }

    fn encode<'v>(value: &'v T, scratch: &'v mut Vec<u8>) -> Result<&'v [u8], EncodeError> {
        scratch.clear();
        // It takes the vector, so as to give it back.
        *scratch = ::postcard::to_extend(value, std::mem::take(scratch))?;
        Ok(scratch)
    }

    fn decode(payload: &[u8]) -> Result<T, EncodeError> {
        let (value, rest) = ::postcard::take_from_bytes(payload)?;
        if rest.is_empty() { Ok(value) } else { Err(format!("{} bytes are left over", rest.len()).into()) }
    }
}
