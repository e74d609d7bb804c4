//! On a tmpfs of a mount namespace of its own, which ends with the test's thread.

use super::*;
use crate::file_handle::{of, of_name};
use crate::testing::{Noise, is_root};
use crate::{mount, ns};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Runs `test` with an empty tmpfs at a path that it is given.
fn on_tmpfs(test: impl FnOnce(&Path) + Send + 'static) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let thread = std::thread::spawn(move || {
        ns::unshare(ns::Namespaces::MOUNT).unwrap();
        mount::make_private_recursive(Path::new("/")).unwrap();
        mount::mount_fs("none", &path, "tmpfs", mount::MsFlags::empty(), "").unwrap();
        test(&path);
        mount::umount_detach(&path).unwrap();
    });
    thread.join().unwrap();
}

fn path_fd(path: &Path) -> File {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags).open(path).unwrap()
}

fn all(watcher: &Watcher) -> Vec<Event> {
    let mut buf = vec![0; EVENT_BYTES_MAX];
    let more = std::iter::from_fn(|| {
        let events = watcher.read(&mut buf).unwrap();
        (!events.is_empty()).then_some(events)
    });
    more.flatten().collect()
}

/// What happened under which name, of events that have one.
fn named(watcher: &Watcher) -> Vec<(u64, String)> {
    let name = |e: Event| Some((e.mask, e.name?.into_string().unwrap()));
    all(watcher).into_iter().filter_map(name).collect()
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|e| e.raw_os_error())
}

#[test]
fn names_of_a_file_system_are_told_with_handles() {
    if !is_root("names_of_a_file_system_are_told") {
        return;
    }
    on_tmpfs(|path| {
        let watcher = Watcher::new().unwrap();
        let root = path_fd(path);
        watcher.watch_file_system(root.as_fd()).unwrap();
        fs::write(path.join("a"), "text").unwrap();
        let (a, _) = of_name(root.as_fd(), c"a").unwrap();
        let created = Event {
            mask: Event::CREATE | Event::CLOSE_WRITE,
            pid: i32::try_from(std::process::id()).unwrap(),
            fsid: fsid(root.as_fd()).unwrap(),
            dir: Some(of(root.as_fd()).unwrap().0),
            name: Some(c"a".to_owned()),
            object: Some(a.clone()),
            overflow: false,
        };
        assert_eq!(all(&watcher), [created]);
        fs::create_dir(path.join("d")).unwrap();
        fs::rename(path.join("a"), path.join("d/b")).unwrap();
        let dir = of_name(root.as_fd(), c"d").unwrap().0;
        let events = all(&watcher);
        let masks: Vec<u64> = events.iter().map(|e| e.mask).collect();
        assert_eq!(masks, [Event::CREATE | Event::ON_DIR, Event::MOVED_FROM, Event::MOVED_TO]);
        assert_eq!((&events[2].dir, &events[2].object), (&Some(dir.clone()), &Some(a.clone())));
        fs::set_permissions(path.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
        let changed = all(&watcher).pop().unwrap();
        assert_eq!((changed.mask, changed.object), (Event::ATTRIB | Event::ON_DIR, Some(dir)));
        assert_eq!((changed.dir, changed.name), (None, None));
        fs::remove_file(path.join("d/b")).unwrap();
        let events = all(&watcher);
        let gone = |e: &Event| e.mask & Event::DELETE_SELF != 0 && e.object == Some(a.clone());
        assert!(events.iter().any(gone), "{events:?}");
        assert!(events.iter().any(|e| e.mask == Event::DELETE), "{events:?}");
        assert!(all(&watcher).is_empty());
    });
}

#[test]
fn before_handles_of_targets_there_were_names() {
    if !is_root("before_handles_of_targets") {
        return;
    }
    on_tmpfs(|path| {
        let watcher = Watcher::with(NAMES[1]).unwrap();
        watcher.watch_file_system(path_fd(path).as_fd()).unwrap();
        fs::write(path.join("a"), "text").unwrap();
        let events = all(&watcher);
        assert_eq!(
            events.iter().map(|e| e.mask).collect::<Vec<_>>(),
            [Event::CREATE, Event::CLOSE_WRITE]
        );
        assert!(events[0].object.is_none() && events[0].dir == events[1].dir);
        let root = path_fd(path);
        assert_eq!(events[1].object, Some(of_name(root.as_fd(), c"a").unwrap().0));
        fs::remove_file(path.join("a")).unwrap();
        assert_eq!(named(&watcher), [(Event::DELETE, "a".to_owned())]);
    });
}

#[test]
fn writes_are_told_of_the_files_that_are_watched() {
    if !is_root("writes_are_told") {
        return;
    }
    on_tmpfs(|path| {
        let watcher = Watcher::new().unwrap();
        watcher.watch_file_system(path_fd(path).as_fd()).unwrap();
        let name = path.join("a");
        let file = OpenOptions::new().create_new(true).write(true).open(&name).unwrap();
        all(&watcher);
        let marked = path_fd(&name);
        file.write_all_at(b"1", 0).unwrap();
        assert!(all(&watcher).is_empty());
        watcher.watch_inode(marked.as_fd()).unwrap();
        file.write_all_at(b"2", 0).unwrap();
        let written = all(&watcher).pop().unwrap();
        assert_eq!(written.mask, Event::MODIFY);
        assert_eq!(written.object, Some(of(marked.as_fd()).unwrap().0));
        nix::unistd::truncate(&name, 0).unwrap();
        assert_eq!(named(&watcher), [(Event::MODIFY, "a".to_owned())]);
        watcher.unwatch_inode(marked.as_fd()).unwrap();
        assert_eq!(errno(watcher.unwatch_inode(marked.as_fd())), Some(libc::ENOENT));
        watcher.watch_inode(marked.as_fd()).unwrap();
        watcher.unwatch_inodes().unwrap();
        assert_eq!(errno(watcher.unwatch_inode(marked.as_fd())), Some(libc::ENOENT));
        file.write_all_at(b"3", 0).unwrap();
        // Known to be silent: whoever caches a file must watch it.
        nix::unistd::truncate(&name, 0).unwrap();
        assert!(all(&watcher).is_empty());
        drop(file);
        assert_eq!(named(&watcher), [(Event::CLOSE_WRITE, "a".to_owned())]);
    });
}

#[test]
fn links_and_fifos_are_marked_without_being_opened() {
    if !is_root("links_and_fifos_are_marked") {
        return;
    }
    on_tmpfs(|path| {
        let watcher = Watcher::new().unwrap();
        symlink("nowhere", path.join("link")).unwrap();
        nix::unistd::mkfifo(&path.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for name in ["link", "fifo"] {
            watcher.watch_inode(path_fd(&path.join(name)).as_fd()).unwrap();
            watcher.unwatch_inode(path_fd(&path.join(name)).as_fd()).unwrap();
        }
        let proc = path_fd(Path::new("/proc"));
        assert!(errno(watcher.watch_file_system(proc.as_fd())).is_some());
    });
}

#[test]
fn a_full_queue_says_that_events_were_lost() {
    if !is_root("a_full_queue_says") {
        return;
    }
    on_tmpfs(|path| {
        let most = fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").unwrap();
        let most: usize = most.trim().parse().unwrap();
        let watcher = Watcher::new().unwrap();
        watcher.watch_file_system(path_fd(path).as_fd()).unwrap();
        if most > 100_000 {
            let _ = writeln!(io::stderr(), "skipped: a queue of {most} takes too long to fill");
            return;
        }
        for n in 0..=most {
            fs::create_dir(path.join(n.to_string())).unwrap();
        }
        let events = all(&watcher);
        assert_eq!(events.len(), most + 1);
        assert!(events.iter().rev().skip(1).all(|e| !e.overflow));
        assert_eq!(events.last(), Some(&Event::lost()));
        fs::create_dir(path.join("after")).unwrap();
        assert_eq!(all(&watcher).len(), 1);
    });
}

/// An overlay of two directories of `path`, which has one file below and nothing above.
fn overlay(path: &Path, options: &str) -> PathBuf {
    for dir in ["lower", "upper", "work", "merged"] {
        fs::create_dir(path.join(dir)).unwrap();
    }
    fs::write(path.join("lower/file"), "text").unwrap();
    let at = |dir: &str| path.join(dir).to_str().unwrap().to_owned();
    let (lower, upper, work) = (at("lower"), at("upper"), at("work"));
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}{options}");
    let (merged, flags) = (path.join("merged"), mount::MsFlags::empty());
    mount::mount_fs("none", &merged, "overlay", flags, &options).unwrap();
    merged
}

#[test]
fn an_exported_overlay_keeps_the_handle_of_a_file_that_is_copied_up() {
    if !is_root("an_exported_overlay_keeps") {
        return;
    }
    on_tmpfs(|path| {
        let merged = overlay(path, ",index=on,nfs_export=on");
        let watcher = Watcher::new().unwrap();
        let root = path_fd(&merged);
        watcher.watch_file_system(root.as_fd()).unwrap();
        let (before, _) = of_name(root.as_fd(), c"file").unwrap();
        fs::write(merged.join("file"), "new").unwrap();
        assert_eq!(of_name(root.as_fd(), c"file").unwrap().0, before);
        let told = all(&watcher).pop().unwrap();
        assert_eq!((told.mask, told.object), (Event::CLOSE_WRITE, Some(before)));
        assert_eq!(told.fsid, fsid(root.as_fd()).unwrap());
        mount::umount_detach(&merged).unwrap();
    });
}

#[test]
fn a_plain_overlay_cannot_be_watched() {
    if !is_root("a_plain_overlay") {
        return;
    }
    on_tmpfs(|path| {
        let merged = overlay(path, ",index=off,nfs_export=off");
        let refused = Watcher::new().unwrap().watch_file_system(path_fd(&merged).as_fd());
        assert_eq!(errno(refused), Some(libc::EOPNOTSUPP));
        assert_eq!(errno(of(path_fd(&merged).as_fd())), Some(libc::EOPNOTSUPP));
        mount::umount_detach(&merged).unwrap();
    });
}

/// An event as the kernel writes it, with one record: kind, handle and a name.
fn event(kind: u8, handle: &[u8], name: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 0, 0, 0];
    record.extend([7; 8]);
    record.extend(u32::try_from(handle.len()).unwrap().to_ne_bytes());
    record.extend(1i32.to_ne_bytes());
    record.extend(handle);
    record.extend(name);
    let len = u16::try_from(record.len()).unwrap();
    record[2..4].copy_from_slice(&len.to_ne_bytes());
    let mut event = (u32::from(len) + 24).to_ne_bytes().to_vec();
    event.extend([libc::FANOTIFY_METADATA_VERSION, 0]);
    event.extend(24u16.to_ne_bytes());
    event.extend(Event::CREATE.to_ne_bytes());
    event.extend((-1i32).to_ne_bytes());
    event.extend(5i32.to_ne_bytes());
    event.extend(record);
    event
}

#[test]
fn any_bytes_are_read_safely_and_what_is_cut_off_is_lost() {
    let good = event(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, &[1, 2, 3, 4], b"name\0\0\0");
    let read = parse(&good.repeat(2));
    assert_eq!(read.len(), 2);
    assert_eq!((read[1].mask, read[1].pid, read[1].overflow), (Event::CREATE, 5, false));
    assert_eq!(read[1].name.as_deref(), Some(c"name"));
    assert_eq!(read[1].dir, FileHandle::new(1, &[1, 2, 3, 4]));
    for cut in 1..good.len() {
        assert_eq!(parse(&good[..cut]), [Event::lost()]);
    }
    for bad in [
        event(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, &[1], b"no end"),
        event(libc::FAN_EVENT_INFO_TYPE_FID, &[0; 129], b""),
    ] {
        assert_eq!(parse(&bad), [Event::lost()]);
    }
    assert_eq!(parse(&event(99, &[], b""))[0].object, None);
    for seed in 0..20_000 {
        let mut noise = Noise::new(seed);
        let bytes = noise.bytes(200);
        assert!(parse(&bytes).len() <= bytes.len() / 24 + 1);
        let mut nearly = good.repeat(3);
        for _ in 0..3 {
            let at = noise.below(nearly.len());
            nearly[at] ^= 1 << noise.below(8);
        }
        assert!(parse(&nearly).len() <= nearly.len() / 24 + 1);
    }
}
