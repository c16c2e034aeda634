//! What the process gets from its system: open files, and memory.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::path::Path;

/// All clients together may take the memory divided by this.
const CLIENT_PARTS: u64 = 4;

/// Bytes of memory where the system says nothing.
const UNKNOWN_MEMORY: u64 = 4 << 30;

/// Raises the limit of open files as far as the kernel allows. Returns the limit, or `None` if
/// there is none.
pub fn raise_open_files() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if raised.is_ok() { maximum } else { current }
}

/// Clients that `limit` open files have room for beside `reserve` others.
pub fn room_for_clients(limit: Option<u64>, reserve: u64) -> usize {
    limit.map_or(usize::MAX, |limit| limit.saturating_sub(reserve) as usize)
}

/// How many clients there may be at a time when `reserve` other files have to fit into `limit` as
/// well: what was asked for, or else `default` or as many as fit. Errors, one line: what was asked
/// for does not fit, or not a single client does.
pub fn fit_clients(
    limit: Option<u64>,
    asked: Option<usize>,
    default: usize,
    reserve: u64,
) -> Result<usize, String> {
    let room = room_for_clients(limit, reserve);
    let wanted = asked.unwrap_or(default);
    if wanted <= room {
        return Ok(wanted);
    }
    let limit = limit.unwrap_or(u64::MAX);
    if asked.is_some() || room == 0 {
        let files = (wanted as u64).saturating_add(reserve);
        return Err(format!(
            "{wanted} clients need {files} open files and the limit is {limit}: \
             raise it (ulimit -n) or lower --max-clients"
        ));
    }
    log::warn!("at most {room} clients, not {default}: the limit of open files is {limit}");
    Ok(room)
}

/// Bytes that the process may have: the machine's memory, or less where a control group or a limit
/// of the address space says so.
pub fn memory() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").ok();
    let group = groups.and_then(|groups| group_limit(&groups, Path::new("/sys/fs/cgroup")));
    let address_space = getrlimit(Resource::As).current;
    [machine, group, address_space].into_iter().flatten().min().unwrap_or(UNKNOWN_MEMORY)
}

/// What all clients together may take of `memory`.
pub fn memory_of_clients(memory: u64) -> usize {
    usize::try_from(memory / CLIENT_PARTS).unwrap_or(usize::MAX)
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The lowest limit of memory of the control groups that `groups` lists, in the form of
/// `/proc/self/cgroup`, and of those that they are in. In a container a group may have its name
/// from outside; what limits it is then at the root of `mount`.
fn group_limit(groups: &str, mount: &Path) -> Option<u64> {
    let limit = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let (root, file) = match controllers {
            "" => (mount.into(), "memory.max"),
            _ if controllers.split(',').any(|it| it == "memory") => {
                (mount.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let limit = |group: &Path| {
            fs::read_to_string(root.join(group).join(file)).ok()?.trim().parse::<u64>().ok()
        };
        Path::new(path.trim_start_matches('/')).ancestors().filter_map(limit).min()
    };
    groups.lines().filter_map(limit).min()
}

/// Has all threads allocate from one heap; called before there are others. Else glibc makes up to
/// eight heaps ("arenas") for each CPU, and those that are not the first grow page by page:
/// where messages are kept in memory, that is a call into the system for every 30 of them.
pub fn share_one_heap() {
    // SAFETY: the call sets a limit of the allocator's; no other thread allocates meanwhile.
    #[cfg(target_env = "gnu")]
    unsafe {
        // Where it is refused, there are more heaps.
        let _is_set = libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_and_reserve_must_fit_into_the_limit() {
        assert_eq!(fit_clients(Some(300), Some(256), 10, 44), Ok(256));
        assert_eq!(fit_clients(None, Some(100_000), 10, 64), Ok(100_000));
        let refused = fit_clients(Some(299), Some(256), 10, 44).unwrap_err();
        assert!(refused.contains("300 open files and the limit is 299"), "{refused}");
    }

    #[test]
    fn the_default_gives_way_to_the_limit() {
        assert_eq!(fit_clients(Some(300), None, 256, 44), Ok(256));
        assert_eq!(fit_clients(None, None, 256, 44), Ok(256));
        assert_eq!(fit_clients(Some(299), None, 256, 44), Ok(255));
        assert_eq!(fit_clients(Some(45), None, 256, 44), Ok(1));
        assert!(fit_clients(Some(44), None, 256, 44).is_err());
        assert!(fit_clients(Some(7), None, 256, 44).is_err());
    }

    #[test]
    fn the_lowest_limit_of_memory_counts() {
        let mount = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = mount.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let limit = |groups: &str| group_limit(groups, mount.path());
        assert_eq!(limit("0::/a/b\n"), None);
        write("a/b/memory.max", "max\n");
        assert_eq!(limit("0::/a/b\n"), None);
        write("a/memory.max", "3000\n");
        assert_eq!(limit("0::/a/b\n"), Some(3000));
        write("memory/memory.limit_in_bytes", "2000\n");
        assert_eq!(limit("9:cpu:/\n4:memory:/not/here\n0::/a/b\n"), Some(2000));
        assert_eq!(total_memory("MemTotal:    2048 kB\nMemFree: 9 kB\n"), Some(2 << 20));
        assert_eq!(total_memory("MemFree: 9 kB\n"), None);
        assert!(memory() > 1 << 20);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let limit = raise_open_files();
        assert_eq!(getrlimit(Resource::Nofile).current, limit);
    }
}
