//! Stages that are chosen at run time, in chains whose length is.

use kekbit::{
    AppendContext, CorrelationId, Handler, Lz4, SequenceStamp, StageError, StageInfo, TickUnit, Timestamp,
};
use proptest::prelude::*;

/// A stage of any kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Timestamp(TickUnit),
    Sequence,
    Correlation,
    Lz4,
    /// So many bytes in front: the sum of what is behind, again and again.
    Before(u8),
    /// So many bytes behind.
    After(u8),
    /// Turns the bytes around, and puts one in front and two behind: a stage that only its own handler undoes.
    Reverse,
}

impl Kind {
    /// A handler of this kind; one with a correlation id carries that of `correlation`.
    pub(crate) fn handler(self, correlation: &CorrelationId) -> Any {
        Any(match self {
            Kind::Timestamp(unit) => Box::new(Timestamp::new(unit)),
            Kind::Sequence => Box::new(SequenceStamp),
            Kind::Correlation => Box::new(correlation.clone()),
            Kind::Lz4 => Box::new(Lz4::new()),
            Kind::Before(_) | Kind::After(_) | Kind::Reverse => Box::new(Own(self)),
        })
    }

    pub(crate) fn describe(self) -> StageInfo {
        match self {
            Kind::Timestamp(unit) => Timestamp::new(unit).describe(),
            Kind::Sequence => SequenceStamp.describe(),
            Kind::Correlation => CorrelationId::new().describe(),
            Kind::Lz4 => Lz4::new().describe(),
            Kind::Before(_) | Kind::After(_) | Kind::Reverse => Own(self).describe(),
        }
    }

    /// Bytes that it adds at the most.
    pub(crate) fn around(self) -> usize {
        let info = self.describe();
        (info.prefix_len + info.suffix_len) as usize
    }
}

/// Up to five of them.
pub(crate) fn any_chain() -> impl Strategy<Value = Vec<Kind>> {
    let unit =
        prop::sample::select(vec![TickUnit::Nanos, TickUnit::Micros, TickUnit::Millis, TickUnit::Secs]);
    let kind = prop_oneof![
        2 => unit.prop_map(Kind::Timestamp),
        2 => Just(Kind::Sequence),
        2 => Just(Kind::Correlation),
        4 => Just(Kind::Lz4),
        1 => (0_u8..20).prop_map(Kind::Before),
        1 => (0_u8..20).prop_map(Kind::After),
        1 => Just(Kind::Reverse),
    ];
    // Compressed once: more is refused.
    prop::collection::vec(kind, 1..=5).prop_map(|mut kinds| {
        let mut compressed = false;
        for kind in kinds.iter_mut().filter(|kind| **kind == Kind::Lz4) {
            if std::mem::replace(&mut compressed, true) {
                *kind = Kind::Sequence;
            }
        }
        kinds
    })
}

/// A handler of any kind.
pub(crate) struct Any(pub(crate) Box<dyn Handler>);

impl Handler for Any {
    fn describe(&self) -> StageInfo {
        self.0.describe()
    }

    fn before(
        &mut self,
        cx: &mut AppendContext<'_>,
        body: &[u8],
        prefix: &mut [u8],
    ) -> Result<(), StageError> {
        self.0.before(cx, body, prefix)
    }

    fn after(
        &mut self,
        cx: &mut AppendContext<'_>,
        body: &[u8],
        suffix: &mut [u8],
    ) -> Result<(), StageError> {
        self.0.after(cx, body, suffix)
    }

    fn instead(
        &mut self,
        cx: &mut AppendContext<'_>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        self.0.instead(cx, body, out)
    }

    fn published(&mut self) {
        self.0.published();
    }

    fn check(&self, prefix: &[u8], body: &[u8], suffix: &[u8]) -> Result<(), StageError> {
        self.0.check(prefix, body, suffix)
    }

    fn undo(&self, prefix: &[u8], body: &[u8], suffix: &[u8], out: &mut Vec<u8>) -> Result<(), StageError> {
        self.0.undo(prefix, body, suffix, out)
    }
}

/// Those that are not kekbit's.
struct Own(Kind);

fn sum(body: &[u8]) -> u8 {
    body.iter().fold(body.len() as u8, |sum, byte| sum.rotate_left(1) ^ byte)
}

impl Handler for Own {
    fn describe(&self) -> StageInfo {
        let (id, prefix_len, suffix_len) = match self.0 {
            Kind::Before(n) => (1, n, 0),
            Kind::After(n) => (2, 0, n),
            _ => (3, 1, 2),
        };
        StageInfo {
            id: id | 1 << 16,
            version: 9,
            prefix_len: prefix_len.into(),
            suffix_len: suffix_len.into(),
            replaces: self.0 == Kind::Reverse,
            name: format!("{:?}", self.0),
            params: vec![prefix_len, suffix_len],
        }
    }

    fn before(
        &mut self,
        _: &mut AppendContext<'_>,
        body: &[u8],
        prefix: &mut [u8],
    ) -> Result<(), StageError> {
        prefix.fill(sum(body));
        Ok(())
    }

    fn after(&mut self, _: &mut AppendContext<'_>, body: &[u8], suffix: &mut [u8]) -> Result<(), StageError> {
        suffix.fill(!sum(body));
        Ok(())
    }

    fn instead(
        &mut self,
        _: &mut AppendContext<'_>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), StageError> {
        out.extend(body.iter().rev());
        Ok(())
    }

    fn check(&self, prefix: &[u8], body: &[u8], suffix: &[u8]) -> Result<(), StageError> {
        let sound =
            prefix.iter().all(|byte| *byte == sum(body)) && suffix.iter().all(|byte| *byte == !sum(body));
        if sound { Ok(()) } else { Err(format!("{:?}: the sum is wrong", self.0).into()) }
    }

    fn undo(&self, _: &[u8], body: &[u8], _: &[u8], out: &mut Vec<u8>) -> Result<(), StageError> {
        out.extend(body.iter().rev());
        Ok(())
    }
}

/// Calls `$with!(a b c)` with as many names, each bound to one of the `$kinds`.
#[macro_export]
macro_rules! for_each_length {
    ($kinds:expr, $with:ident) => {
        match *$kinds {
            [a] => $with!(a),
            [a, b] => $with!(a b),
            [a, b, c] => $with!(a b c),
            [a, b, c, d] => $with!(a b c d),
            [a, b, c, d, e] => $with!(a b c d e),
            ref other => panic!("a chain of {}", other.len()),
        }
    };
}
