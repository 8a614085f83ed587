//! Structs of a fixed layout: their bytes are the record.

use std::marker::PhantomData;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Codec, Layout, RecordType, Typed, TypedBatch};
use crate::claim::Claim;
use crate::encode::EncodeError;
use crate::error::AppendError;
use crate::handler::Chain;
use crate::journal::Journal;
use crate::writer::{Appended, Writer};

/// The codec of structs with a fixed layout: what lies in memory is what lies in the file, and is read where it lies.
///
/// `T` derives zerocopy's `FromBytes`, `IntoBytes`, `Immutable` and `KnownLayout` and is `repr(C)`. The compiler then makes sure
/// that it has no padding, no pointer and no forbidden value, so that any bytes of its length are such a struct. Its name
/// and fields are told by [`record_type!`](crate::record_type).
///
/// Files are little endian on every machine. The types of `zerocopy::little_endian` are that by themselves, and may begin
/// anywhere. A struct with Rust's own numbers is as fast, but is refused by the compiler on machines that are big endian,
/// and its payload must begin at a multiple of its alignment: the built-in stages, of 8 bytes each, keep it there;
/// compression and some other stages do not, and then the channel is refused as [`TypeError::Unaligned`](super::TypeError::Unaligned).
#[derive(Debug)]
pub struct Plain<T>(PhantomData<fn() -> T>);

impl<T: RecordType + FromBytes + IntoBytes + Immutable + KnownLayout + 'static> Codec for Plain<T> {
    type Value = T;
    type View<'p> = &'p T;
    const CONTENT_TYPE: &'static str = "application/x-kekbit-plain";
    const ALIGN: usize = {
        assert!(
            align_of::<T>() <= 8,
            "a payload begins at a multiple of 8: no type with more alignment fits"
        );
        assert!(
            align_of::<T>() == 1 || cfg!(target_endian = "little"),
            "files are little endian: take the types of zerocopy::little_endian"
        );
        align_of::<T>()
    };

    fn name() -> String {
        T::NAME.into()
    }

    fn layout() -> Option<Layout> {
        Some(Layout::of::<T>(T::fields()))
    }

    #[inline]
    fn encode<'v>(value: &'v T, _: &'v mut Vec<u8>) -> Result<&'v [u8], EncodeError> {
        Ok(value.as_bytes())
    }

    #[inline]
    fn decode(payload: &[u8]) -> Result<&T, EncodeError> {
        T::ref_from_bytes(payload).map_err(|_| refused::<T>(payload))
    }
}

#[cold]
fn refused<T>(payload: &[u8]) -> EncodeError {
    let (len, size, align) = (payload.len(), size_of::<T>(), align_of::<T>());
    match len == size {
        true => {
            format!("a value of the type begins at a multiple of {align} bytes, and this one does not").into()
        }
        false => format!("it has {len} bytes, and a value of the type has {size}").into(),
    }
}

impl<C, T> Typed<Writer<C>, Plain<T>>
where
    C: Chain,
    T: RecordType + FromBytes + IntoBytes + Immutable + KnownLayout + 'static,
{
    /// Appends a record that `fill` writes in place, in the channel's memory. What it finds there is unspecified, so it
    /// should assign the whole.
    ///
    /// # Errors
    ///
    /// As [`Writer::append`]. If `fill` panics nothing has happened.
    #[inline]
    pub fn append_with(&mut self, fill: impl FnOnce(&mut T)) -> Result<Appended, AppendError> {
        fill_and_commit(self.inner.claim(size_of::<T>())?, fill)
    }
}

impl<C, T> Typed<Journal<C>, Plain<T>>
where
    C: Chain,
    T: RecordType + FromBytes + IntoBytes + Immutable + KnownLayout + 'static,
{
    /// Appends a record that `fill` writes in place, in the memory of the journal's channel. What it finds there is unspecified, so it
    /// should assign the whole.
    ///
    /// # Errors
    ///
    /// As [`Journal::append`]. If `fill` panics nothing has happened.
    #[inline]
    pub fn append_with(&mut self, fill: impl FnOnce(&mut T)) -> Result<Appended, AppendError> {
        fill_and_commit(self.inner.claim(size_of::<T>())?, fill)
    }
}

impl<C, T> TypedBatch<'_, C, Plain<T>>
where
    C: Chain,
    T: RecordType + FromBytes + IntoBytes + Immutable + KnownLayout + 'static,
{
    /// Adds a record that `fill` writes in place, in the memory of the channel. What it finds there is unspecified, so it should
    /// assign the whole.
    ///
    /// # Errors
    ///
    /// As [`TypedBatch::push`]. If `fill` panics the batch is as it was before.
    pub fn push_with(&mut self, fill: impl FnOnce(&mut T)) -> Result<(), AppendError> {
        if self.batch.is_outside() {
            return self.batch.push(filled(fill).as_bytes());
        }
        let fill = |space: &mut [u8]| fill(T::mut_from_bytes(space).expect(ALIGNED));
        self.batch.push_in_place(size_of::<T>(), fill)
    }
}

const ALIGNED: &str = "the alignment was compared with the stages";

/// A value that `fill` has written, where what stands in its place is made of it afterwards.
fn filled<T: FromBytes>(fill: impl FnOnce(&mut T)) -> T {
    let mut value = T::new_zeroed();
    fill(&mut value);
    value
}

/// Commits a claim of the length of a `T`, once `fill` has written it.
#[inline]
fn fill_and_commit<C: Chain, T: FromBytes + IntoBytes + Immutable + KnownLayout>(
    mut claim: Claim<'_, C>,
    fill: impl FnOnce(&mut T),
) -> Result<Appended, AppendError> {
    if claim.is_outside() {
        claim.copy_from_slice(filled(fill).as_bytes());
    } else {
        fill(T::mut_from_bytes(&mut claim).expect(ALIGNED));
    }
    claim.commit(size_of::<T>())
}
