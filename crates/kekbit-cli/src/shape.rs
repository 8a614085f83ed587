//! What the payloads of a channel are, as far as its header says: for `--json`, which then shows the value too.

use std::cell::RefCell;

use kekbit::typed::{Layout, Value};
use kekbit::{Metadata, Record};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// What payloads are.
#[derive(Clone, Debug, Default)]
pub(crate) enum Shape {
    /// Nothing is known of them.
    #[default]
    Bytes,
    /// Structs with a fixed layout.
    Fields(Layout),
    /// JSON, which is shown as it is.
    Json,
}

impl Shape {
    pub(crate) fn of(metadata: Metadata<'_>) -> Shape {
        match (metadata.record_layout(), metadata.content_type()) {
            (Some(layout), _) if !layout.fields().is_empty() => Shape::Fields(layout),
            (_, Some(content_type)) if is_json(content_type) => Shape::Json,
            _ => Shape::Bytes,
        }
    }

    /// What `payload` is, if it is that.
    pub(crate) fn value<'a>(&'a self, payload: &'a [u8]) -> Option<Shown<'a>> {
        match self {
            Shape::Bytes => None,
            Shape::Fields(layout) if payload.len() == layout.size() => Some(Shown::Fields(layout, payload)),
            Shape::Fields(_) => None,
            Shape::Json => json(payload).map(Shown::Json),
        }
    }
}

/// The shapes of the channels that records come from: one, or in a journal one after the other.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    current: Shape,
    /// First sequence of its channel.
    of: Option<u64>,
}

impl Shapes {
    /// Takes the records that do not say where they come from for such ones.
    pub(crate) fn expect(&mut self, shape: Shape) {
        self.current = shape;
    }

    /// The shape of `record`.
    pub(crate) fn of(&mut self, record: &Record<'_>) -> &Shape {
        if let Some(channel) = record.channel()
            && self.of != Some(channel.first_sequence())
        {
            self.current = Shape::of(channel.metadata());
            self.of = Some(channel.first_sequence());
        }
        &self.current
    }
}

/// A payload as its value.
#[derive(Debug)]
pub(crate) enum Shown<'a> {
    Fields(&'a Layout, &'a [u8]),
    Json(Box<RawValue>),
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Shown::Json(value) => value.serialize(serializer),
            Shown::Fields(layout, payload) => {
                let mut map = serializer.serialize_map(Some(layout.fields().len()))?;
                for field in layout.fields() {
                    match field.values(payload) {
                        Some(values) => map.serialize_entry(field.name(), &List(RefCell::new(values)))?,
                        None => map.serialize_entry(field.name(), &field.value(payload).map(Number))?,
                    }
                }
                map.end()
            }
        }
    }
}

/// The elements of an array, one by one: there may be millions.
struct List<I>(RefCell<I>);

impl<I: Iterator<Item = Value>> Serialize for List<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.borrow_mut().by_ref().map(Number))
    }
}

/// A value that is no array. What JSON has no number for becomes `null`.
struct Number(Value);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Value::Unsigned(number) => serializer.serialize_u64(*number),
            Value::Signed(number) => serializer.serialize_i64(*number),
            Value::Single(number) => serializer.serialize_f32(*number),
            Value::Double(number) => serializer.serialize_f64(*number),
            Value::Text(text) => serializer.serialize_str(text),
            _ => serializer.serialize_none(),
        }
    }
}

/// Whether a media type says JSON: `application/json`, or one that ends with `+json`, with whatever parameters.
fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type == "application/json" || media_type.ends_with("+json")
}

/// The JSON in `payload`, on one line.
fn json(payload: &[u8]) -> Option<Box<RawValue>> {
    let value: &RawValue = serde_json::from_slice(payload).ok()?;
    if !value.get().contains(['\n', '\r']) {
        return Some(value.to_owned());
    }
    // Between its tokens: none may contain one.
    RawValue::from_string(value.get().replace(['\n', '\r'], " ")).ok()
}
