//! Writing in stages: what a handler is, how handlers form a chain, and how a record is taken apart again.
//!
//! ```text
//! options.stage(A).stage(B)            A is the outermost stage, B the innermost
//!
//! stored record:   [A's prefix][ ...what B makes... ][A's suffix]
//! what B makes:               [B's prefix][payload][B's suffix]
//! ```
//!
//! A stage may put bytes before and after what it is given, whose number never changes, and it may put other bytes in
//! its place (compression, encryption). The chain is composed statically, so that it costs what its stages do, and its
//! description is recorded in the channel's header. A reader that knows no stage at all still finds the payload behind
//! prefixes and before suffixes. A stage in place of the payload is undone by every reader if kekbit brings it, see `undo.rs`;
//! any other must be undone by its own handler, see [`Decoder`](crate::Decoder).

use std::error::Error;

use crate::time::Clock;

/// What the header of a channel records of one stage.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct StageInfo {
    /// Number of the stage's kind. Those below 65536 belong to kekbit.
    pub id: u32,
    /// Version of what the stage does; of the same id, another version may not be read as this one.
    pub version: u16,
    /// Bytes in front of what the stage is given, in every record.
    pub prefix_len: u32,
    /// Bytes behind it.
    pub suffix_len: u32,
    /// Whether the stage puts other bytes in place of what it is given.
    pub replaces: bool,
    /// A name for people.
    pub name: String,
    /// What undoing the stage needs to know; for the stage to define.
    pub params: Vec<u8>,
}

/// What a handler may know of the append that it takes part in.
#[derive(Debug)]
pub struct AppendContext<'w> {
    sequence: u64,
    clock: &'w mut Clock,
}

impl<'w> AppendContext<'w> {
    pub(crate) fn new(sequence: u64, clock: &'w mut Clock) -> Self {
        AppendContext { sequence, clock }
    }

    /// The sequence that the record will have.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Nanoseconds since the Unix epoch by the writer's clock, which never goes back within a channel.
    pub fn now(&mut self) -> u64 {
        self.clock.now()
    }
}

/// Why a stage refused a record.
pub type StageError = Box<dyn Error + Send + Sync>;

/// One stage of the write operation, and of its undoing.
///
/// All methods but [`Handler::describe`] have a default that does nothing; implement those that the description
/// promises. An append that fails after a stage has run leaves no trace in the channel; the handler learns of success
/// by [`Handler::published`], so state that must not advance without a record (a counter, a running hash) is changed
/// there, and state that must never repeat (a nonce) when it is used.
///
/// # Example: a stage behind the payload
///
/// ```
/// use kekbit::{AppendContext, Channel, Handler, StageError, StageInfo, Writer};
///
/// /// One byte behind each record: the exclusive or of all its bytes.
/// struct Parity;
///
/// fn parity(body: &[u8]) -> u8 {
///     body.iter().fold(0, |sum, byte| sum ^ byte)
/// }
///
/// impl Handler for Parity {
///     fn describe(&self) -> StageInfo {
///         StageInfo { id: 1 << 16, version: 1, suffix_len: 1, name: "parity".into(), ..StageInfo::default() }
///     }
///
///     fn after(&mut self, _: &mut AppendContext, body: &[u8], suffix: &mut [u8]) -> Result<(), StageError> {
///         suffix[0] = parity(body);
///         Ok(())
///     }
///
///     fn check(&self, _prefix: &[u8], body: &[u8], suffix: &[u8]) -> Result<(), StageError> {
///         if suffix[0] == parity(body) { Ok(()) } else { Err("parity does not match".into()) }
///     }
/// }
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("parity.kek");
/// let mut writer = Writer::options().capacity(1 << 16).stage(Parity).create(&path)?;
/// writer.append(b"abc")?;
/// writer.close()?;
///
/// let channel = Channel::open(&path)?;
/// let record = channel.records().next().unwrap()?;
/// assert_eq!(&record[..], b"abc");
/// assert_eq!(record.stored(), b"abc\x60");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Handler {
    /// What the header records of this stage. Prefix and suffix length must be the same for the handler's whole life.
    fn describe(&self) -> StageInfo;

    /// Whether [`Handler::before`] and [`Handler::after`] look at `body`. Where no stage of a chain does, they may be given an empty one
    /// instead: appending then saves a copy, as long as all bytes of the stages lie in front of the payload and are 8, 16 or 24.
    /// Always the same answer. Default: yes.
    fn looks_at_body(&self) -> bool {
        true
    }

    /// Fills the bytes in front of `body`, which later stages have completed.
    ///
    /// # Errors
    ///
    /// Refuses the record; then nothing is appended.
    fn before(
        &mut self,
        cx: &mut AppendContext<'_>,
        body: &[u8],
        prefix: &mut [u8],
    ) -> Result<(), StageError> {
        let _ = (cx, body, prefix);
        Ok(())
    }

    /// Fills the bytes behind `body`.
    ///
    /// # Errors
    ///
    /// Refuses the record; then nothing is appended.
    fn after(
        &mut self,
        cx: &mut AppendContext<'_>,
        body: &[u8],
        suffix: &mut [u8],
    ) -> Result<(), StageError> {
        let _ = (cx, body, suffix);
        Ok(())
    }

    /// Appends to `out` what stands in place of `body`. Only for a stage whose description says `replaces`.
    ///
    /// It is called first; [`Handler::before`] and [`Handler::after`] are then given what it has made, so what undoing
    /// needs (a nonce, a length) is remembered here and written there.
    ///
    /// # Errors
    ///
    /// Refuses the record; then nothing is appended.
    fn instead(
        &mut self,
        cx: &mut AppendContext<'_>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        let _ = cx;
        out.extend_from_slice(body);
        Ok(())
    }

    /// The record has been published: the frame that this handler took part in is complete, and nothing can take it
    /// back. For the records of a batch this is called when the batch is committed, once for each, after all of them
    /// have gone through the stages.
    fn published(&mut self) {}

    /// The way back: looks at the bytes around `body` that [`Handler::before`] and [`Handler::after`] made.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with them.
    fn check(&self, prefix: &[u8], body: &[u8], suffix: &[u8]) -> Result<(), StageError> {
        let _ = (prefix, body, suffix);
        Ok(())
    }

    /// The way back: appends to `out` what [`Handler::instead`] was given when it made `body`. All three come from a file
    /// and may be anything; [`Handler::check`] has accepted them.
    ///
    /// # Errors
    ///
    /// If nothing can have made them.
    fn undo(&self, prefix: &[u8], body: &[u8], suffix: &[u8], out: &mut Vec<u8>) -> Result<(), StageError> {
        let _ = (prefix, suffix);
        out.extend_from_slice(body);
        Ok(())
    }
}

/// A chain of stages: `()`, or a [`Stage`] around a chain. Made by the `stage` methods of the options.
pub trait Chain: sealed::Sealed {
    /// Whether there is no stage at all.
    #[doc(hidden)]
    const EMPTY: bool;

    /// The stages, the outermost first.
    #[doc(hidden)]
    fn describe(&self, into: &mut Vec<StageInfo>);

    /// Bytes in front of the payload. Meaningless if a stage replaces.
    #[doc(hidden)]
    fn prefix_len(&self) -> usize;

    /// Bytes behind the payload. Meaningless if a stage replaces.
    #[doc(hidden)]
    fn suffix_len(&self) -> usize;

    /// Whether a stage puts other bytes in place of what it is given.
    #[doc(hidden)]
    fn replaces(&self) -> bool;

    /// Whether a stage looks at what it is given.
    #[doc(hidden)]
    fn looks_at_body(&self) -> bool;

    /// Completes a record whose payload is in place. Only if no stage replaces.
    #[doc(hidden)]
    fn complete(&mut self, cx: &mut AppendContext<'_>, record: &mut [u8]) -> Result<(), StageError>;

    /// Appends to `out` the record that `payload` becomes.
    #[doc(hidden)]
    fn build(
        &mut self,
        cx: &mut AppendContext<'_>,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), StageError>;

    /// Tells every stage that the record is published.
    #[doc(hidden)]
    fn published(&mut self);

    /// Takes a record apart; the payload is a part of `record`, or is put into a stage's own buffer.
    #[doc(hidden)]
    fn take_apart<'a>(
        &'a mut self,
        record: &'a [u8],
        fields: &mut Vec<Field<'a>>,
    ) -> Result<&'a [u8], StageError>;
}

/// The bytes that one stage has put around what it was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    /// Bytes in front.
    pub prefix: &'a [u8],
    /// Bytes behind.
    pub suffix: &'a [u8],
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl<H, C> Sealed for super::Stage<H, C> {}
}

/// A handler around the stages that come after it. Made by the `stage` methods of the options.
#[derive(Debug)]
pub struct Stage<H, C> {
    handler: H,
    inner: C,
    prefix_len: usize,
    suffix_len: usize,
    replaces: bool,
    /// What the inner stages make, when this one replaces it.
    scratch: Vec<u8>,
}

/// A chain that can take one more stage at its inner end.
pub trait Push<H>: Chain {
    /// The longer chain.
    type Output: Chain;

    /// Adds `handler` as the innermost stage.
    #[doc(hidden)]
    fn push(self, handler: H) -> Self::Output;
}

impl<H: Handler> Push<H> for () {
    type Output = Stage<H, ()>;

    fn push(self, handler: H) -> Self::Output {
        let info = handler.describe();
        Stage {
            prefix_len: info.prefix_len as usize,
            suffix_len: info.suffix_len as usize,
            replaces: info.replaces,
            handler,
            inner: (),
            scratch: Vec::new(),
        }
    }
}

impl<H: Handler, O: Handler, C: Push<H>> Push<H> for Stage<O, C> {
    type Output = Stage<O, C::Output>;

    fn push(self, handler: H) -> Self::Output {
        Stage {
            handler: self.handler,
            inner: self.inner.push(handler),
            prefix_len: self.prefix_len,
            suffix_len: self.suffix_len,
            replaces: self.replaces,
            scratch: self.scratch,
        }
    }
}

impl Chain for () {
    const EMPTY: bool = true;

    fn describe(&self, _: &mut Vec<StageInfo>) {}

    fn prefix_len(&self) -> usize {
        0
    }

    fn suffix_len(&self) -> usize {
        0
    }

    fn replaces(&self) -> bool {
        false
    }

    fn looks_at_body(&self) -> bool {
        false
    }

    fn complete(&mut self, _: &mut AppendContext<'_>, _: &mut [u8]) -> Result<(), StageError> {
        Ok(())
    }

    fn build(
        &mut self,
        _: &mut AppendContext<'_>,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        out.extend_from_slice(payload);
        Ok(())
    }

    fn published(&mut self) {}

    fn take_apart<'a>(
        &'a mut self,
        record: &'a [u8],
        _: &mut Vec<Field<'a>>,
    ) -> Result<&'a [u8], StageError> {
        Ok(record)
    }
}

impl<H: Handler, C: Chain> Chain for Stage<H, C> {
    const EMPTY: bool = false;

    fn describe(&self, into: &mut Vec<StageInfo>) {
        into.push(self.handler.describe());
        self.inner.describe(into);
    }

    fn prefix_len(&self) -> usize {
        self.prefix_len + self.inner.prefix_len()
    }

    fn suffix_len(&self) -> usize {
        self.suffix_len + self.inner.suffix_len()
    }

    fn replaces(&self) -> bool {
        self.replaces || self.inner.replaces()
    }

    fn looks_at_body(&self) -> bool {
        self.handler.looks_at_body() || self.inner.looks_at_body()
    }

    #[inline]
    fn complete(&mut self, cx: &mut AppendContext<'_>, record: &mut [u8]) -> Result<(), StageError> {
        let (prefix, rest) = record.split_at_mut(self.prefix_len);
        let (body, suffix) = rest.split_at_mut(rest.len() - self.suffix_len);
        self.inner.complete(cx, body)?;
        self.handler.before(cx, body, prefix)?;
        self.handler.after(cx, body, suffix)
    }

    fn build(
        &mut self,
        cx: &mut AppendContext<'_>,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        let start = out.len();
        out.resize(start + self.prefix_len, 0);
        if self.replaces {
            self.scratch.clear();
            self.inner.build(cx, payload, &mut self.scratch)?;
            self.handler.instead(cx, &self.scratch, out)?;
            // Nothing is there yet but room for prefixes, whatever has become of it in its hands.
            let room = out.get_mut(..start + self.prefix_len);
            room.ok_or("a stage has taken away bytes that are not its own")?.fill(0);
        } else {
            self.inner.build(cx, payload, out)?;
        }
        let body_end = out.len();
        out.resize(body_end + self.suffix_len, 0);
        let (prefix, rest) = out[start..].split_at_mut(self.prefix_len);
        let (body, suffix) = rest.split_at_mut(rest.len() - self.suffix_len);
        self.handler.before(cx, body, prefix)?;
        self.handler.after(cx, body, suffix)
    }

    fn published(&mut self) {
        self.handler.published();
        self.inner.published();
    }

    fn take_apart<'a>(
        &'a mut self,
        record: &'a [u8],
        fields: &mut Vec<Field<'a>>,
    ) -> Result<&'a [u8], StageError> {
        let body_end = record.len().checked_sub(self.suffix_len).filter(|end| *end >= self.prefix_len);
        let body_end = body_end.ok_or("the record is shorter than its stages make it")?;
        let (prefix, body, suffix) =
            (&record[..self.prefix_len], &record[self.prefix_len..body_end], &record[body_end..]);
        self.handler.check(prefix, body, suffix)?;
        fields.push(Field { prefix, suffix });
        if self.replaces {
            self.scratch.clear();
            self.handler.undo(prefix, body, suffix, &mut self.scratch)?;
            self.inner.take_apart(&self.scratch, fields)
        } else {
            self.inner.take_apart(body, fields)
        }
    }
}
