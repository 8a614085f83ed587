//! What measurements were taken on: processor, caches, memory, kernel, file system. A figure without it says little.
//!
//! Everything is read from `/proc` and `/sys`, but for the hypervisor's name, which the processor tells. What cannot be
//! found out is `None`, and `unknown` as text; nothing is guessed.

use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::{Deserialize, Serialize};

use crate::human;

/// A machine, as far as it says what it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// When it was looked at, RFC 3339 in UTC.
    pub date: String,
    /// The processor's name.
    pub processor: Option<String>,
    /// Logical processors that are online.
    pub cores: Option<usize>,
    /// Those on which this process may run, as in `0-3,8`.
    pub allowed: Option<String>,
    /// The logical processors that share a core, one entry for each core.
    pub siblings: Vec<String>,
    /// Every cache, with the processors that share it.
    pub caches: Vec<Cache>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Name and release of the kernel.
    pub kernel: Option<String>,
    /// Whether this is a virtual machine, and whose.
    pub hypervisor: Hypervisor,
    /// How the processor's frequency is governed. Virtual machines seldom say.
    pub governor: Option<String>,
    /// Where the kernel gets its time from.
    pub clock: Option<String>,
    /// Bytes in a page.
    pub page_size: Option<u64>,
    /// When the kernel uses huge pages.
    pub huge_pages: HugePages,
    /// The file system that was asked about.
    pub file_system: Option<FileSystem>,
}

/// A cache of the processor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cache {
    /// `L1 data`, `L1 instruction`, `L2`.
    pub name: String,
    /// Bytes.
    pub size: Option<u64>,
    /// The logical processors that share it.
    pub shared_by: String,
}

/// Whether a machine is a virtual one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hypervisor {
    /// It says that there is none.
    None,
    /// There is one of this name.
    Named(String),
    /// There is one that does not say its name.
    Unnamed,
    /// It says nothing.
    Unknown,
}

/// When the kernel uses huge pages: the chosen word of each setting in `/sys/kernel/mm/transparent_hugepage`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HugePages {
    /// For anonymous memory.
    pub enabled: Option<String>,
    /// For files in memory.
    pub shmem: Option<String>,
    /// Bytes in a huge page.
    pub size: Option<u64>,
}

/// A mounted file system.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileSystem {
    /// The directory that was asked about.
    pub dir: PathBuf,
    /// Its type, such as `ext4` or `tmpfs`.
    pub kind: String,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The options it is mounted with.
    pub options: String,
}

impl Machine {
    /// This machine, and the file system that `dir` lies on.
    pub fn this(dir: &Path) -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let online = word("/sys/devices/system/cpu/online").and_then(|list| parse_list(&list));
        let cpus = online.clone().unwrap_or_default();
        let governor = word("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        Machine {
            date: format!("{:.0}", Timestamp::now()),
            processor: processor(&cpuinfo),
            cores: online.map(|list| list.len()),
            allowed: allowed().map(|cores| write_list(cores.into_iter())),
            siblings: distinct(
                cpus.iter().filter_map(|cpu| word(format!("{CPU}{cpu}/topology/thread_siblings_list"))),
            ),
            caches: distinct(cpus.iter().flat_map(|cpu| caches(*cpu))),
            memory: kibibytes(&meminfo, "MemTotal"),
            kernel: word("/proc/sys/kernel/ostype")
                .zip(word("/proc/sys/kernel/osrelease"))
                .map(|(name, release)| format!("{name} {release}")),
            hypervisor: hypervisor(&cpuinfo),
            governor,
            clock: word("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            page_size: sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| size.try_into().ok()),
            huge_pages: HugePages {
                enabled: word(format!("{HUGE}enabled")).and_then(|text| chosen(&text)),
                shmem: word(format!("{HUGE}shmem_enabled")).and_then(|text| chosen(&text)),
                size: kibibytes(&meminfo, "Hugepagesize"),
            },
            file_system: file_system(dir),
        }
    }

    /// Its properties in the order in which people want to know them: a name and a text for each.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let known = |text: &Option<String>| text.clone().unwrap_or_else(unknown);
        let size = |bytes: Option<u64>| bytes.map_or_else(unknown, |bytes| human::bytes(bytes as f64));
        let cores = self.cores.map_or_else(unknown, |cores| {
            let allowed = self.allowed.as_deref().unwrap_or("unknown");
            format!("{cores} online, this process may use {allowed}")
        });
        let shared: Vec<&str> = self
            .siblings
            .iter()
            .filter(|list| parse_list(list).is_some_and(|l| l.len() > 1))
            .map(|s| &**s)
            .collect();
        let siblings = match (self.siblings.is_empty(), shared.is_empty()) {
            (true, _) => unknown(),
            (false, true) => "none: each core runs one thread".to_owned(),
            (false, false) => shared.join(" "),
        };
        // Caches of the same kind and size in one line: all that differs is who shares them.
        let mut caches: Vec<(String, Vec<&str>)> = Vec::new();
        for cache in &self.caches {
            let kind = format!("{} {}", cache.name, size(cache.size));
            match caches.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, sharers)) => sharers.push(&cache.shared_by),
                None => caches.push((kind, vec![&cache.shared_by])),
            }
        }
        let caches = caches.iter().map(|(kind, sharers)| format!("{kind} ({})", sharers.join(" | ")));
        let caches = caches.collect::<Vec<_>>().join("; ");
        let huge = &self.huge_pages;
        let file_system = self.file_system.as_ref().map_or_else(unknown, |file_system| {
            let FileSystem { kind, mount, options, .. } = file_system;
            format!("{kind} mounted at {} ({options})", mount.display())
        });
        vec![
            ("processor", known(&self.processor)),
            ("cores", cores),
            ("SMT siblings", siblings),
            ("caches", if caches.is_empty() { unknown() } else { caches }),
            ("memory", size(self.memory)),
            ("kernel", known(&self.kernel)),
            ("hypervisor", self.hypervisor.to_string()),
            ("governor", known(&self.governor)),
            ("clock source", known(&self.clock)),
            ("page size", size(self.page_size)),
            (
                "huge pages",
                format!(
                    "{}; anonymous {}, in files in memory {}",
                    size(huge.size),
                    known(&huge.enabled),
                    known(&huge.shmem)
                ),
            ),
            (
                "directory",
                self.file_system
                    .as_ref()
                    .map_or_else(unknown, |file_system| file_system.dir.display().to_string()),
            ),
            ("file system", file_system),
            ("date", self.date.clone()),
        ]
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows().iter().try_for_each(|(name, text)| writeln!(f, "{name:<13} {text}"))
    }
}

impl fmt::Display for Hypervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hypervisor::None => "none",
            Hypervisor::Named(name) => name,
            Hypervisor::Unnamed => "one that does not say its name",
            Hypervisor::Unknown => "unknown",
        })
    }
}

const CPU: &str = "/sys/devices/system/cpu/cpu";
const HUGE: &str = "/sys/kernel/mm/transparent_hugepage/";

fn unknown() -> String {
    "unknown".to_owned()
}

/// The content of a small file of the kernel's.
fn word(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The value of the first line with this key: `key : value`.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.trim(), value.trim()))
        .find(|(name, value)| *name == key && !value.is_empty())
        .map(|of| of.1)
}

pub(crate) fn kibibytes(meminfo: &str, key: &str) -> Option<u64> {
    field(meminfo, key)?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The word in brackets: `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

/// A name where there is one; on other architectures the numbers that stand for it.
fn processor(cpuinfo: &str) -> Option<String> {
    let named = field(cpuinfo, "model name").or_else(|| field(cpuinfo, "Model")).map(str::to_owned);
    named.or_else(|| {
        let (implementer, part) = (field(cpuinfo, "CPU implementer")?, field(cpuinfo, "CPU part")?);
        Some(format!("implementer {implementer}, part {part}"))
    })
}

fn hypervisor(cpuinfo: &str) -> Hypervisor {
    if let Some(name) = hypervisor_name() {
        return Hypervisor::Named(name);
    }
    if let Some(name) = word("/sys/hypervisor/type") {
        return Hypervisor::Named(name);
    }
    match field(cpuinfo, "flags") {
        Some(flags) if flags.split(' ').any(|flag| flag == "hypervisor") => Hypervisor::Unnamed,
        Some(_) => Hypervisor::None,
        None => Hypervisor::Unknown,
    }
}

#[cfg(target_arch = "x86_64")]
fn hypervisor_name() -> Option<String> {
    use raw_cpuid::{CpuId, Hypervisor};
    let name = match CpuId::new().get_hypervisor_info()?.identify() {
        Hypervisor::Unknown(..) => return None,
        Hypervisor::VMware => "VMware".to_owned(),
        Hypervisor::HyperV => "Hyper-V".to_owned(),
        other => format!("{other:?}"),
    };
    Some(name)
}

#[cfg(not(target_arch = "x86_64"))]
fn hypervisor_name() -> Option<String> {
    None
}

/// The processors on which this process may run.
pub(crate) fn allowed() -> Option<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).ok()?;
    Some((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

fn caches(cpu: usize) -> Vec<Cache> {
    let cache = |index: usize| {
        let of = |name: &str| word(format!("{CPU}{cpu}/cache/index{index}/{name}"));
        let kind = match of("type")?.as_str() {
            "Data" => " data",
            "Instruction" => " instruction",
            _ => "",
        };
        let size = of("size").and_then(|size| crate::values::size(&size).ok());
        Some(Cache { name: format!("L{}{kind}", of("level")?), size, shared_by: of("shared_cpu_list")? })
    };
    (0..).map_while(cache).collect()
}

/// Each once, in the order in which they came.
fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.fold(Vec::new(), |mut seen, one| {
        if !seen.contains(&one) {
            seen.push(one);
        }
        seen
    })
}

/// Numbers as the kernel lists them: `0-3,8`.
pub(crate) fn parse_list(text: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
        // More than any machine has is no list of processors.
        (from <= to && to < 1 << 16).then(|| numbers.extend(from..=to))?;
    }
    Some(numbers)
}

pub(crate) fn write_list(numbers: impl Iterator<Item = usize>) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let run = |(from, to): (usize, usize)| if from == to { from.to_string() } else { format!("{from}-{to}") };
    runs.into_iter().map(run).collect::<Vec<_>>().join(",")
}

pub(crate) fn file_system(dir: &Path) -> Option<FileSystem> {
    let dir = fs::canonicalize(dir).ok()?;
    find_mount(&fs::read("/proc/self/mountinfo").ok()?, &dir)
}

/// The mount that `dir` is under: the longest, and of several at one place the last, which hides the others.
fn find_mount(mountinfo: &[u8], dir: &Path) -> Option<FileSystem> {
    let mounts = mountinfo.split(|byte| *byte == b'\n').filter_map(|line| {
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let (mount, options) = (unescape(words.get(4)?), words.get(5)?);
        let separator = words.iter().position(|word| *word == b"-")?;
        let kind = words.get(separator + 1)?;
        let mount = PathBuf::from(std::ffi::OsStr::from_bytes(&mount));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(FileSystem { dir: dir.to_owned(), kind: text(kind), mount, options: text(options) })
    });
    let over = mounts.filter(|file_system| dir.starts_with(&file_system.mount));
    over.max_by_key(|file_system| file_system.mount.as_os_str().len())
}

/// Undoes what the kernel does to blanks in a path: `\040`.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, tail)) = rest.split_first() {
        let octal =
            tail.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => (rest, _) = (&tail[3..], bytes.push(byte)),
            None => (rest, _) = (tail, bytes.push(first)),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written() {
        assert_eq!(parse_list("0-2,8\n"), Some(vec![0, 1, 2, 8]));
        assert_eq!(parse_list("5"), Some(vec![5]));
        for text in ["", "a", "3-1", "1-", "0-99999999"] {
            assert_eq!(parse_list(text), None, "{text}");
        }
        assert_eq!(write_list([0, 1, 2, 8, 10, 11].into_iter()), "0-2,8,10-11");
    }

    #[test]
    fn the_longest_and_last_mount_is_the_one() {
        let mountinfo = b"27 1 254:0 / / rw - ext4 /dev/vda rw,discard\n\
            30 27 0:25 / /a rw,relatime - tmpfs tmpfs rw\n\
            31 27 0:26 / /a\\040b rw,nosuid shared:7 - xfs /dev/vdb rw\n\
            32 27 0:27 / /a\\040b ro - btrfs /dev/vdc ro\nnonsense\n";
        let kind = |dir: &str| find_mount(mountinfo, Path::new(dir)).map(|found| (found.kind, found.options));
        let of = |kind: &str, options: &str| Some((kind.to_owned(), options.to_owned()));
        assert_eq!(kind("/c"), of("ext4", "rw"));
        assert_eq!(kind("/a/c"), of("tmpfs", "rw,relatime"));
        assert_eq!(kind("/ab"), of("ext4", "rw"));
        assert_eq!(kind("/a b/c"), of("btrfs", "ro"));
        assert_eq!(find_mount(b"", Path::new("/")), None);
    }

    #[test]
    fn processors_are_named_as_well_as_they_can_be() {
        let x86 = "processor\t: 0\nmodel name\t: Fast 9000\nflags\t\t: fpu hypervisor\n";
        assert_eq!(processor(x86).as_deref(), Some("Fast 9000"));
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n";
        assert_eq!(processor(arm).as_deref(), Some("implementer 0x41, part 0xd0c"));
        assert_eq!(processor(""), None);
    }

    #[test]
    fn settings_have_a_chosen_word() {
        assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(chosen("always"), None);
        assert_eq!(kibibytes("MemTotal:       24 kB\n", "MemTotal"), Some(24576));
        assert_eq!(kibibytes("MemTotal:       24\n", "MemTotal"), None);
    }

    #[test]
    fn this_machine_says_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::this(dir.path());
        assert!(machine.cores.is_some_and(|cores| cores > 0), "{machine:?}");
        assert!(machine.memory.is_some_and(|memory| memory > 1 << 20), "{machine:?}");
        assert!(machine.page_size.is_some_and(|size| size.is_power_of_two()), "{machine:?}");
        let file_system = machine.file_system.as_ref().expect("a file system");
        assert!(dir.path().canonicalize().unwrap().starts_with(&file_system.mount));
        assert!(machine.to_string().lines().count() == machine.rows().len());
    }
}
