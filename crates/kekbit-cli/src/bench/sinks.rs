//! Files into which the results go. Whether they can be written is found out before hours are spent.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::bench::options::OutputArgs;
use crate::bench::result::Summary;
use crate::bench::{Bench, hgrm, page};
use crate::exit::{Exit, Failure};
use crate::machine::Machine;

pub(crate) struct Sinks {
    html: Option<Sink>,
    hgrm: Vec<Sink>,
}

/// A file that appears when it is complete, or something else that can be written to, such as a terminal.
struct Sink {
    path: PathBuf,
    file: Option<NamedTempFile>,
}

impl Sinks {
    /// The distributions of several cases need a directory, which is created.
    pub(crate) fn open(output: &OutputArgs, bench: &Bench) -> Result<Sinks, Failure> {
        let html = output.html.as_deref().map(Sink::open).transpose()?;
        let Some(path) = &output.hgrm else { return Ok(Sinks { html, hgrm: Vec::new() }) };
        if bench.cases.len() == 1 && !path.is_dir() {
            return Ok(Sinks { html, hgrm: vec![Sink::open(path)?] });
        }
        fs::create_dir_all(path).map_err(|error| cannot(path, error))?;
        let name = |name: &str| path.join(format!("{}.hgrm", name.replace(' ', "-")));
        let hgrm = bench.cases.iter().map(|case| Sink::open(&name(&case.name))).collect::<Result<_, _>>()?;
        Ok(Sinks { html, hgrm })
    }

    pub(crate) fn write(
        self,
        bench: &Bench,
        summaries: &[Summary],
        machine: &Machine,
    ) -> Result<(), Failure> {
        if let Some(sink) = self.html {
            let page = page::page(bench, summaries, machine)
                .map_err(|error| Failure::new(Exit::Io, format_args!("{}: {error}", sink.path.display())))?;
            sink.put(&page)?;
        }
        self.hgrm.into_iter().zip(summaries).try_for_each(|(sink, of)| sink.put(&hgrm::text(&of.latencies)))
    }
}

impl Sink {
    fn open(path: &Path) -> Result<Sink, Failure> {
        // What a link leads to is written, and not the link replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => Err(cannot(&path, io::ErrorKind::IsADirectory.into())),
            Ok(found) if !found.is_file() => Ok(Sink { path, file: None }),
            _ => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                let mut builder = Builder::new();
                builder.prefix(".kek-bench-").permissions(Permissions::from_mode(0o666));
                let file = builder.tempfile_in(parent.unwrap_or(Path::new(".")));
                let file = Some(file.map_err(|error| cannot(&path, error))?);
                Ok(Sink { path, file })
            }
        }
    }

    fn put(self, text: &str) -> Result<(), Failure> {
        let Sink { path, file } = self;
        let put = match file {
            None => fs::write(&path, text),
            Some(mut file) => file
                .write_all(text.as_bytes())
                .and_then(|()| file.persist(&path).map(drop).map_err(|error| error.error)),
        };
        put.map_err(|error| Failure::io(format_args!("cannot write {}", path.display()), error))
    }
}

fn cannot(path: &Path, error: io::Error) -> Failure {
    Failure::new(Exit::Usage, format_args!("cannot write {}: {error}", path.display()))
}
