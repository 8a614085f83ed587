//! How records are printed: the forms, and one large buffer in front of standard output.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};

use clap::Args;
use data_encoding::{BASE64, HEXLOWER};
use kekbit::Record;
use serde::{Serialize, Serializer};

use crate::exit::Failure;
use crate::pipe;
use crate::shape::{Shape, Shapes, Shown};
use crate::values::rfc3339;

/// The options that choose a form.
#[derive(Args, Clone, Copy, Debug, Default)]
#[group(multiple = false)]
pub(crate) struct FormArgs {
    /// Each record is followed by a zero byte instead of a line feed
    #[arg(short = '0', long)]
    null: bool,

    /// Each record is preceded by its length, a little-endian u32, and followed by nothing
    #[arg(long)]
    framed: bool,

    /// The records and nothing else
    #[arg(long)]
    raw: bool,

    /// One JSON object a line: seq, pos, len, ts, data, enc, value
    ///
    /// `ts` and `corr` only if there are timestamps and correlation ids; `enc` is utf8 or base64. `value` only where the channel's
    /// header says what records are: the fields of a struct with a fixed layout, or JSON if the content type is that. Integers are
    /// exact, and jq before 1.7 rounds those above 2^53; NaN and infinities are null.
    #[arg(long)]
    json: bool,

    /// Each record as one line of hexadecimal digits
    #[arg(long)]
    hex: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Terminated(u8),
    Framed,
    Raw,
    Json,
    Hex,
}

impl From<FormArgs> for Form {
    fn from(args: FormArgs) -> Form {
        match args {
            FormArgs { null: true, .. } => Form::Terminated(0),
            FormArgs { framed: true, .. } => Form::Framed,
            FormArgs { raw: true, .. } => Form::Raw,
            FormArgs { json: true, .. } => Form::Json,
            FormArgs { hex: true, .. } => Form::Hex,
            _ => Form::Terminated(b'\n'),
        }
    }
}

/// A record as `--json` prints it.
#[derive(Serialize)]
struct JsonRecord<'a> {
    seq: u64,
    pos: u64,
    len: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<String>,
    /// A string, since jq rounds large numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    corr: Option<String>,
    #[serde(serialize_with = "Data::serialize")]
    data: Data<'a>,
    enc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Shown<'a>>,
}

/// A payload on its way into JSON, without a copy of it: what is no text becomes base64.
enum Data<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Data::Text(text) => serializer.serialize_str(text),
            Data::Bytes(bytes) => serializer.collect_str(&BASE64.encode_display(bytes)),
        }
    }
}

/// Bytes that are gathered before they are written, unless somebody waits for them.
const BUFFER: usize = 256 << 10;

/// Records on their way to standard output.
#[derive(Debug)]
pub(crate) struct Output {
    form: Form,
    shapes: Shapes,
    buffer: Vec<u8>,
    file: File,
}

impl Output {
    /// Standard output, without the line buffer of the standard library.
    pub(crate) fn stdout(args: FormArgs) -> Result<Output, Failure> {
        let file = io::stdout().as_fd().try_clone_to_owned().map(<File as From<OwnedFd>>::from);
        let file = file.map_err(Failure::output)?;
        pipe::widen(&file);
        Ok(Output {
            form: args.into(),
            shapes: Shapes::default(),
            buffer: Vec::with_capacity(2 * BUFFER),
            file,
        })
    }

    /// Takes records that are copies for payloads of this shape.
    pub(crate) fn expect(&mut self, shape: Shape) {
        self.shapes.expect(shape);
    }

    /// Whether records go to a file, where nobody watches them arrive.
    pub(crate) fn is_file(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.is_file())
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Prints a record.
    #[inline]
    pub(crate) fn record(&mut self, record: &Record<'_>) -> Result<(), Failure> {
        let payload = record.payload();
        match self.form {
            Form::Terminated(terminator) => {
                self.bytes(payload)?;
                self.buffer.push(terminator);
            }
            Form::Raw => self.bytes(payload)?,
            Form::Framed => {
                // No record is longer than 2^28 - 1 bytes.
                self.buffer.extend_from_slice(&(payload.len() as u32).to_le_bytes());
                self.bytes(payload)?;
            }
            Form::Json => self.json(record)?,
            Form::Hex => {
                for chunk in payload.chunks(BUFFER) {
                    self.flush_if_full()?;
                    let at = self.buffer.len();
                    self.buffer.resize(at + HEXLOWER.encode_len(chunk.len()), 0);
                    HEXLOWER.encode_mut(chunk, &mut self.buffer[at..]);
                }
                self.buffer.push(b'\n');
            }
        }
        self.flush_if_full()
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if bytes.len() < BUFFER {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.flush()?;
        self.file.write_all(bytes).map_err(Failure::output)
    }

    fn json(&mut self, record: &Record<'_>) -> Result<(), Failure> {
        let payload = record.payload();
        if payload.len() >= BUFFER {
            // It goes out while it is made, behind what is there.
            self.flush()?;
        }
        let (data, enc) = match std::str::from_utf8(payload) {
            Ok(text) => (Data::Text(text), "utf8"),
            Err(_) => (Data::Bytes(payload), "base64"),
        };
        let json = JsonRecord {
            seq: record.sequence(),
            pos: record.position().offset(),
            len: payload.len(),
            ts: record.timestamp_nanos().map(rfc3339),
            corr: record.correlation_id().map(|id| id.to_string()),
            data,
            enc,
            value: self.shapes.of(record).value(payload),
        };
        let written = if payload.len() < BUFFER {
            serde_json::to_writer(&mut self.buffer, &json)
        } else {
            // Several times as long as the record, perhaps.
            let mut file = BufWriter::with_capacity(BUFFER, &self.file);
            serde_json::to_writer(&mut file, &json).and_then(|()| file.flush().map_err(serde_json::Error::io))
        };
        written.map_err(|error| Failure::output(error.into()))?;
        self.buffer.push(b'\n');
        Ok(())
    }

    #[inline]
    fn flush_if_full(&mut self) -> Result<(), Failure> {
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Lets everything out.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let written = self.file.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(Failure::output)
    }
}

/// Prints text that is complete, such as a page of a manual.
pub(crate) fn print(text: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).map_err(Failure::output)
}

/// Prints a value as one line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(value).map_err(|error| Failure::output(error.into()))?;
    line.push(b'\n');
    print(&line)
}
