//! Chronicle Queue, in a program of its own: the Java project in `java/`, which Maven builds when it is first asked for.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use super::Entry;
use crate::Result;
use crate::peer::{About, Workload};

pub(super) fn entry() -> Entry {
    Entry {
        name: "Chronicle Queue".into(),
        about: About { kept: true, checksummed: false, survives_kill: true },
        workloads: vec![Workload::Stream, Workload::Sustained, Workload::Pingpong, Workload::OpenLoop],
        command,
    }
}

/// Options of the virtual machine.
const OPTIONS: &[&str] = &[
    // What Chronicle's documentation asks for under Java 17.
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-exports=jdk.unsupported/sun.misc=ALL-UNNAMED",
    "--add-exports=jdk.compiler/com.sun.tools.javac.file=ALL-UNNAMED",
    "--add-opens=jdk.compiler/com.sun.tools.javac=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.lang.reflect=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    // Nothing beside the work: no statistics sent, no banner, no looking at free space, no checks of one's own threads.
    "-Dchronicle.analytics.disable=true",
    "-Dchronicle.announcer.disable=true",
    "-Dchronicle.disk.monitor.disable=true",
    "-Ddisable.single.threaded.check=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    // Hardly any garbage is made: no threads for it, no heap that grows.
    "-XX:+UseSerialGC",
    "-Xms512m",
    "-Xmx512m",
    "-XX:+AlwaysPreTouch",
];

/// The program, built if need be.
fn command() -> Result<Command> {
    ask("java", "-version")?;
    ask("mvn", "-version")?;
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("java");
    let jar = project.join("target/chronicle-peer.jar");
    if modified(&jar).is_none_or(|built| newest(&project).is_none_or(|changed| changed > built)) {
        build(&project)?;
    }
    let mut command = Command::new("java");
    let libraries = project.join("target/lib/*");
    command.args(OPTIONS).arg("-cp").arg(format!("{}:{}", jar.display(), libraries.display()));
    command.arg("kekbit.bench.Main");
    Ok(command)
}

/// Whether a tool is there.
fn ask(tool: &str, question: &str) -> Result<()> {
    let answer = Command::new(tool).arg(question).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match answer {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{tool} does not run: {status}").into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(format!("{tool} is missing").into())
        }
        Err(error) => Err(format!("{tool} does not run: {error}").into()),
    }
}

fn build(project: &Path) -> Result<()> {
    let built = Command::new("mvn").args(["-q", "-B", "package"]).current_dir(project).output()?;
    if built.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&built.stdout);
    let first = said.lines().find(|line| line.contains("ERROR")).unwrap_or("it does not say why");
    Err(format!("mvn package in {} failed: {first}", project.display()).into())
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

/// When anything that the program is built from was changed last.
fn newest(project: &Path) -> Option<SystemTime> {
    let mut newest = modified(&project.join("pom.xml"))?;
    let mut dirs: Vec<PathBuf> = vec![project.join("src")];
    while let Some(dir) = dirs.pop() {
        for entry in dir.read_dir().ok()?.flatten() {
            newest = newest.max(modified(&entry.path())?);
            if entry.path().is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    Some(newest)
}
