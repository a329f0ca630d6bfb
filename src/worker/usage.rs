//! The processor time and the memory that a process uses. Its memory is what it has allocated,
//! without files and without what it shares with others.

/// The processor time that a process has used, in the system's ticks.
pub(crate) fn time_of(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program, in parentheses, may contain spaces.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = rest.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(ticks.next()?.ok()? + ticks.next()?.ok()?)
}

/// The memory of another process, in bytes.
pub(crate) fn memory_of(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

/// The memory of this process, in bytes. It is faster than [`memory_of`], because a worker asks
/// before each message.
pub(crate) fn memory_here() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = statm.split_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
    Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_grows_while_a_process_computes() {
        let before = time_of(std::process::id()).unwrap();
        let mut number = 1_u64;
        while time_of(std::process::id()).unwrap() == before {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
        assert_eq!(time_of(u32::MAX), None);
    }

    #[test]
    fn this_process_has_memory() {
        let block = vec![1_u8; 8 << 20];
        let (slow, quick) = (memory_of(std::process::id()).unwrap(), memory_here().unwrap());
        assert!(slow > 8 << 20 && quick > 8 << 20, "{slow} {quick}");
        assert!(block.iter().all(|byte| *byte == 1));
        assert_eq!(memory_of(u32::MAX), None);
    }
}
