//! Numbers that every stage measures: means, and the memory of this process.

/// A sum as a mean over `n`; `None` of none.
pub(crate) fn share(sum: f64, n: usize) -> Option<f64> {
    (n > 0).then(|| sum / n as f64)
}

/// Mean of some numbers; `None` of none.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.into_iter().fold((0.0, 0), |(sum, n), value| (sum + value, n + 1));
    share(sum, n)
}

/// Largest resident memory of this process so far, in bytes: `VmHWM` of `/proc/self/status`; `None` on systems without.
pub fn peak_memory_bytes() -> Option<u64> {
    peak_memory_of(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// `VmHWM` in the text of a `/proc/PID/status` file, in bytes.
fn peak_memory_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_files_are_parsed() {
        assert_eq!(peak_memory_of("Name:\taloud\nVmPeak:\t  99 kB\nVmHWM:\t    1536 kB\n"), Some(1536 * 1024));
        assert_eq!(peak_memory_of("Name:\taloud\n"), None);
        assert_eq!(peak_memory_of("VmHWM:\tmuch\n"), None);
        assert_eq!(peak_memory_of("VmHWM: 99999999999999999999 kB"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_memory() {
        let peak = peak_memory_bytes();
        assert!(peak.is_some_and(|bytes| bytes > 100_000), "{peak:?}");
    }
}
