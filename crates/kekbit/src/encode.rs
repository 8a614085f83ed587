//! Values that write themselves into the space of a record.

use std::error::Error;

/// Something that can write itself as one record, straight into the channel's memory.
///
/// # Example: a fixed layout
///
/// ```
/// use kekbit::{Encode, EncodeError};
///
/// struct Tick { instrument: u32, price: f64 }
///
/// impl Encode for Tick {
///     fn max_len(&self) -> usize {
///         12
///     }
///
///     fn encode(&self, space: &mut [u8]) -> Result<usize, EncodeError> {
///         if self.price.is_nan() {
///             return Err("a price must be a number".into());   // nothing is appended
///         }
///         space[..4].copy_from_slice(&self.instrument.to_le_bytes());
///         space[4..12].copy_from_slice(&self.price.to_le_bytes());
///         Ok(12)
///     }
/// }
/// ```
pub trait Encode {
    /// How many bytes [`Encode::encode`] may need at the most.
    fn max_len(&self) -> usize;

    /// Writes the value into `space`, which has [`Encode::max_len`] bytes of unspecified content, and returns how many
    /// of them, from the first on, make the record.
    ///
    /// # Errors
    ///
    /// Whatever stands in the way; then nothing is appended.
    fn encode(&self, space: &mut [u8]) -> Result<usize, EncodeError>;
}

/// Why a value could not be encoded.
pub type EncodeError = Box<dyn Error + Send + Sync>;

impl Encode for [u8] {
    fn max_len(&self) -> usize {
        self.len()
    }

    fn encode(&self, space: &mut [u8]) -> Result<usize, EncodeError> {
        space[..self.len()].copy_from_slice(self);
        Ok(self.len())
    }
}

macro_rules! encode_as_bytes {
    ($([$($generics:tt)*] $type:ty: $value:ident => $bytes:expr;)*) => {$(
        impl $($generics)* Encode for $type {
            fn max_len(&self) -> usize {
                let $value = self;
                <[u8]>::len($bytes)
            }

            fn encode(&self, space: &mut [u8]) -> Result<usize, EncodeError> {
                let $value = self;
                <[u8] as Encode>::encode($bytes, space)
            }
        }
    )*};
}

encode_as_bytes! {
    [] str: s => s.as_bytes();
    [] String: s => s.as_bytes();
    [] Vec<u8>: v => v;
    [<const N: usize>] [u8; N]: a => a;
}

impl<T: Encode + ?Sized> Encode for &T {
    fn max_len(&self) -> usize {
        T::max_len(self)
    }

    fn encode(&self, space: &mut [u8]) -> Result<usize, EncodeError> {
        T::encode(self, space)
    }
}
