//! What a run ran on, as far as it matters for its figures, and nothing that tells whose machine it is.

use std::{collections::BTreeMap, process::Command};

use serde_json::{Value, json};

/// Machine and software of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// The processor's model.
    pub processor: String,
    /// Cores that may be used.
    pub cores: usize,
    /// Memory, in GiB.
    pub memory_gib: u64,
    /// The kernel's version.
    pub kernel: String,
    /// How the kernel lets TCP share a network, unless a program chooses for itself: `cubic`, `bbr`; or
    /// `unknown`.
    pub congestion_control: String,
    /// Are Postern's programs built by a profile of what they do under load?
    pub by_profile: bool,
    /// Versions of what was measured, by the key of its way.
    pub software: BTreeMap<&'static str, String>,
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        let field = |path: &str, name: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|rest| rest.trim_start_matches([' ', '\t', ':']).trim().to_owned())
        };
        let kib = field("/proc/meminfo", "MemTotal").unwrap_or_default();
        let kib = kib.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        let setting =
            |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
        let kernel = setting("kernel/osrelease");
        let numbers = |c: char| c.is_ascii_digit() || c == '.';
        let kernel = kernel.split(|c| !numbers(c)).next().unwrap_or_default().to_owned();
        Self {
            processor: field("/proc/cpuinfo", "model name").unwrap_or("unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kib.div_ceil(1024 * 1024),
            kernel,
            congestion_control: match setting("net/ipv4/tcp_congestion_control").trim() {
                "" => "unknown".to_owned(),
                known => known.to_owned(),
            },
            by_profile: false,
            software: BTreeMap::new(),
        }
    }

    /// Notes the version of what is measured: the first number that a command says.
    pub fn note(&mut self, way: &'static str, command: &mut Command) {
        let Ok(output) = command.output() else { return };
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let mut words = said.split(|c: char| c.is_whitespace() || matches!(c, ',' | '/' | '_'));
        let is_version = |word: &&str| {
            word.starts_with(|c: char| c.is_ascii_digit())
                && word.contains('.')
                && !word.contains(':')
        };
        if let Some(version) = words.find(is_version) {
            self.software.insert(way, version.to_owned());
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        let Self { processor, cores, memory_gib, kernel, congestion_control, .. } = self;
        format!(
            "{processor}, {cores} cores, {memory_gib} GiB, Linux {kernel}, TCP with {congestion_control}"
        )
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "processor": self.processor,
            "cores": self.cores,
            "memory_gib": self.memory_gib,
            "kernel": self.kernel,
            "tcp_congestion_control": self.congestion_control,
            "by_profile": self.by_profile,
            "software": self.software,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_first_number_that_a_program_says() {
        let mut machine = Machine::default();
        for (way, said) in [
            (
                "rathole",
                "rathole \nBuild Timestamp:     2026-11-20T13:33:59.01Z\nBuild Version:  0.5.0",
            ),
            ("nginx", "nginx version: nginx/1.22.1"),
            ("haproxy", "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/"),
            ("openssh", "OpenSSH_9.2p1 Debian-2+deb12u7, OpenSSL 3.0.17 1 Jul 2025"),
        ] {
            machine.note(way, Command::new("printf").arg(said));
        }
        let versions: Vec<&str> = machine.software.values().map(String::as_str).collect();
        assert_eq!(versions, ["2.6.12-1+deb12u4", "1.22.1", "9.2p1", "0.5.0"]);
    }
}
