//! What the system says of this process's memory.

/// Bytes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// All that is resident, mapped files too.
    pub resident: u64,
    /// What is the process's own: the system cannot drop it and read it again from a file.
    pub own: u64,
}

/// The memory of this process; zeros where the system does not say.
pub fn memory() -> ProcessMemory {
    std::fs::read_to_string("/proc/self/status").map(|status| parse(&status)).unwrap_or_default()
}

fn parse(status: &str) -> ProcessMemory {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        number.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    ProcessMemory { resident: bytes("VmRSS:"), own: bytes("RssAnon:") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_system_are_read() {
        let status = "Name:\tmqd\nVmRSS:\t    2048 kB\nRssAnon:\t     512 kB\nRssFile:\t 1 kB\n";
        assert_eq!(parse(status), ProcessMemory { resident: 2 << 20, own: 512 << 10 });
        assert_eq!(parse("VmRSS: many\n"), ProcessMemory::default());
    }
}
