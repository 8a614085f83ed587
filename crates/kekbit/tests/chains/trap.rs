//! A stage that does what it is told, be it wrong, and chains that it is a part of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use kekbit::{AppendContext, CorrelationId, Handler, StageError, StageInfo};

use crate::any::{Any, Kind};
use crate::common::bytes;

/// The longest stored record of the channels that it is in.
pub(crate) const LONGEST: usize = 2000;

/// What a [`Trap`] does to the next record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Deed {
    Nothing,
    FailsBefore,
    FailsAfter,
    FailsInstead,
    PanicsBefore,
    PanicsAfter,
    PanicsInstead,
    /// Makes more than a record may have.
    TooMuch,
    /// Takes away what other stages have put there, or room for it.
    TakesAway,
}

pub(crate) const DEEDS: [Deed; 9] = [
    Deed::Nothing,
    Deed::FailsBefore,
    Deed::FailsAfter,
    Deed::FailsInstead,
    Deed::PanicsBefore,
    Deed::PanicsAfter,
    Deed::PanicsInstead,
    Deed::TooMuch,
    Deed::TakesAway,
];

impl Deed {
    /// Whether only a stage does that that stands in place of the payload.
    pub(crate) fn replaces(self) -> bool {
        matches!(self, Deed::FailsInstead | Deed::PanicsInstead | Deed::TooMuch | Deed::TakesAway)
    }

    pub(crate) fn panics(self) -> bool {
        matches!(self, Deed::PanicsBefore | Deed::PanicsAfter | Deed::PanicsInstead)
    }
}

/// A stage that does what it is told.
#[derive(Clone, Debug)]
pub(crate) struct Trap {
    replaces: bool,
    deed: Arc<AtomicU8>,
}

impl Trap {
    fn deed(&self) -> Deed {
        DEEDS[usize::from(self.deed.load(Ordering::Relaxed))]
    }

    fn meets(&self, fails: Deed, panics: Deed) -> Result<(), StageError> {
        match self.deed() {
            deed if deed == fails => Err("refused on purpose".into()),
            deed if deed == panics => panic!("on purpose"),
            _ => Ok(()),
        }
    }
}

impl Handler for Trap {
    fn describe(&self) -> StageInfo {
        StageInfo {
            id: 1 << 17,
            version: 1,
            prefix_len: 2,
            suffix_len: 3,
            replaces: self.replaces,
            name: "trap".into(),
            ..StageInfo::default()
        }
    }

    fn before(&mut self, _: &mut AppendContext<'_>, _: &[u8], prefix: &mut [u8]) -> Result<(), StageError> {
        prefix.fill(0xBB);
        self.meets(Deed::FailsBefore, Deed::PanicsBefore)
    }

    fn after(&mut self, _: &mut AppendContext<'_>, _: &[u8], suffix: &mut [u8]) -> Result<(), StageError> {
        suffix.fill(0xAA);
        self.meets(Deed::FailsAfter, Deed::PanicsAfter)
    }

    fn instead(
        &mut self,
        _: &mut AppendContext<'_>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        // Half of it, before anything goes wrong.
        let (half, rest) = body.split_at(body.len() / 2);
        out.extend_from_slice(half);
        self.meets(Deed::FailsInstead, Deed::PanicsInstead)?;
        out.extend_from_slice(rest);
        match self.deed() {
            // In a way that nothing makes shorter.
            Deed::TooMuch => out.extend(bytes(1, 2 * LONGEST)),
            Deed::TakesAway => out.clear(),
            _ => {}
        }
        Ok(())
    }

    fn check(&self, prefix: &[u8], _: &[u8], suffix: &[u8]) -> Result<(), StageError> {
        if (prefix, suffix) == (&[0xBB; 2], &[0xAA; 3]) { Ok(()) } else { Err("not the trap's".into()) }
    }
}

/// Counts what has been published.
pub(crate) struct Counted {
    inner: Any,
    published: Arc<AtomicU64>,
}

impl Handler for Counted {
    fn describe(&self) -> StageInfo {
        self.inner.describe()
    }
    fn before(
        &mut self,
        cx: &mut AppendContext<'_>,
        body: &[u8],
        prefix: &mut [u8],
    ) -> Result<(), StageError> {
        self.inner.before(cx, body, prefix)
    }
    fn after(
        &mut self,
        cx: &mut AppendContext<'_>,
        body: &[u8],
        suffix: &mut [u8],
    ) -> Result<(), StageError> {
        self.inner.after(cx, body, suffix)
    }
    fn instead(
        &mut self,
        cx: &mut AppendContext<'_>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        self.inner.instead(cx, body, out)
    }
    fn published(&mut self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }
    fn check(&self, prefix: &[u8], body: &[u8], suffix: &[u8]) -> Result<(), StageError> {
        self.inner.check(prefix, body, suffix)
    }
    fn undo(&self, prefix: &[u8], body: &[u8], suffix: &[u8], out: &mut Vec<u8>) -> Result<(), StageError> {
        self.inner.undo(prefix, body, suffix, out)
    }
}

/// What is in the chain, from the outside in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    Of(Kind),
    Trap { replaces: bool },
}

/// The traps and counters of a chain.
#[derive(Default)]
pub(crate) struct Scene {
    deed: Arc<AtomicU8>,
    pub(crate) published: Arc<AtomicU64>,
    correlation: CorrelationId,
}

impl Scene {
    pub(crate) fn handler(&self, link: Link) -> Counted {
        let inner = match link {
            Link::Of(kind) => kind.handler(&self.correlation),
            Link::Trap { replaces } => Any(Box::new(Trap { replaces, deed: Arc::clone(&self.deed) })),
        };
        Counted { inner, published: Arc::clone(&self.published) }
    }

    pub(crate) fn set(&self, deed: Deed) {
        self.deed.store(deed as u8, Ordering::Relaxed);
    }
}
