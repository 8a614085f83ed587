//! Undoing the stages of a record, stage by stage, with the handlers that made it.

use thiserror::Error;

use crate::channel::Channel;
use crate::handler::{Chain, Field, Push, StageError, StageInfo};
use crate::record::Record;

/// Takes records apart with the handlers that put them together: checks what each stage has put around them, and undoes
/// what stands in place of the payload.
///
/// # Example: a stage in place of the payload
///
/// ```
/// use kekbit::{AppendContext, Channel, Decoder, Handler, StageError, StageInfo, Writer};
///
/// struct Rot(u8);
///
/// impl Handler for Rot {
///     fn describe(&self) -> StageInfo {
///         StageInfo { id: 1 << 16, version: 1, replaces: true, name: "rot".into(), ..StageInfo::default() }
///     }
///
///     fn instead(&mut self, _: &mut AppendContext, body: &[u8], out: &mut Vec<u8>) -> Result<(), StageError> {
///         out.extend(body.iter().map(|byte| byte.wrapping_add(self.0)));
///         Ok(())
///     }
///
///     fn undo(&self, _: &[u8], body: &[u8], _: &[u8], out: &mut Vec<u8>) -> Result<(), StageError> {
///         out.extend(body.iter().map(|byte| byte.wrapping_sub(self.0)));
///         Ok(())
///     }
/// }
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("rot.kek");
/// let mut writer = Writer::options().stage(Rot(13)).create(&path)?;
/// writer.append(b"ABC")?;
/// writer.close()?;
///
/// let channel = Channel::options().stored(true).open(&path)?;
/// let mut decoder = Decoder::new(&channel).stage(Rot(13)).build()?;
/// let record = channel.records().next().unwrap()?;
/// assert_eq!(&record[..], b"NOP");
/// assert_eq!(decoder.decode(&record)?.payload, b"ABC");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Decoder<C: Chain> {
    chain: C,
}

/// The stages of a decoder, as they are named one after the other, the outermost first; made by [`Decoder::new`].
#[derive(Debug)]
#[must_use = "this is no decoder until `build`"]
pub struct DecoderBuilder<C> {
    recorded: Vec<StageInfo>,
    chain: C,
}

/// Why a record could not be decoded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The handlers are not those of the channel.
    #[error("the channel was written through the stages [{recorded}], not [{given}]")]
    OtherStages {
        /// What the header records: name, id and version of each.
        recorded: String,
        /// What the handlers say.
        given: String,
    },
    /// A handler does not accept its part of the record.
    #[error("a stage does not accept the record: {0}")]
    Stage(#[source] StageError),
}

/// A record, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decoded<'a> {
    /// What was appended.
    pub payload: &'a [u8],
    /// What each stage has put around it, the outermost first.
    pub fields: Vec<Field<'a>>,
}

impl Decoder<()> {
    /// Begins a decoder for the records of `channel`; every stage is to be named, in the order in which they were
    /// given to the writer.
    #[allow(clippy::new_ret_no_self, reason = "the stages come before the decoder")]
    pub fn new(channel: &Channel) -> DecoderBuilder<()> {
        DecoderBuilder { recorded: channel.stages().to_vec(), chain: () }
    }
}

impl<C: Chain> DecoderBuilder<C> {
    /// Names the next stage.
    pub fn stage<H>(self, handler: H) -> DecoderBuilder<C::Output>
    where
        C: Push<H>,
    {
        DecoderBuilder { recorded: self.recorded, chain: self.chain.push(handler) }
    }

    /// The decoder.
    ///
    /// # Errors
    ///
    /// [`DecodeError::OtherStages`] unless every id, version and length is what the header records. Parameters are for
    /// the handlers to compare.
    pub fn build(self) -> Result<Decoder<C>, DecodeError> {
        let mut given = Vec::new();
        self.chain.describe(&mut given);
        let key = |s: &StageInfo| (s.id, s.version, s.prefix_len, s.suffix_len, s.replaces);
        if !given.iter().map(key).eq(self.recorded.iter().map(key)) {
            return Err(DecodeError::OtherStages { recorded: names(&self.recorded), given: names(&given) });
        }
        Ok(Decoder { chain: self.chain })
    }
}

fn names(stages: &[StageInfo]) -> String {
    let name = |s: &StageInfo| format!("{} (id {}, version {})", s.name, s.id, s.version);
    stages.iter().map(name).collect::<Vec<_>>().join(", ")
}

impl<C: Chain> Decoder<C> {
    /// Takes `record` apart.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Stage`] if a handler does not accept its part.
    pub fn decode<'a>(&'a mut self, record: &Record<'a>) -> Result<Decoded<'a>, DecodeError> {
        let mut fields = Vec::new();
        let payload = self.chain.take_apart(record.stored(), &mut fields).map_err(DecodeError::Stage)?;
        Ok(Decoded { payload, fields })
    }
}
