//! Objects of System V (sysvipc(7)) of the calling process's IPC namespace: what is in them, and
//! new ones with that in them.

use std::io;

/// Which of the three.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A message queue.
    Queue,
    /// A set of semaphores.
    Semaphores,
    /// Shared memory.
    Memory,
}

/// What all of them have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Common {
    /// By which programs find it; 0: none do.
    pub key: i32,
    /// Who may do what with it.
    pub mode: u32,
    /// Whose it is.
    pub uid: u32,
    /// And which group's.
    pub gid: u32,
}

/// msgrcv(2), in Linux's headers but not in libc's: a message by its place, which stays there.
const MSG_COPY: libc::c_int = 0o40000;
/// What semctl(2) takes last.
#[repr(C)]
union SemArgument {
    value: libc::c_int,
    status: *mut libc::semid_ds,
    array: *mut u16,
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn common(perm: &libc::ipc_perm) -> Common {
    let mode = u32::from(perm.mode) & 0o777;
    Common { key: perm.__key, mode, uid: perm.uid, gid: perm.gid }
}

/// Has the next object of this kind get this number, if this process may say so.
pub fn number_next(kind: Kind, id: i32) {
    let name = match kind {
        Kind::Queue => "msg",
        Kind::Semaphores => "sem",
        Kind::Memory => "shm",
    };
    // Else it gets another: programs find it by its key.
    let _ = std::fs::write(format!("/proc/sys/kernel/{name}_next_id"), id.to_string());
}

fn flags(common: Common) -> libc::c_int {
    libc::IPC_CREAT | libc::IPC_EXCL | (common.mode & 0o777) as libc::c_int
}

/// Of a message queue: what all have, how many messages, and how many bytes it holds at most.
///
/// # Errors
/// The kernel's.
pub fn queue(id: i32) -> io::Result<(Common, u64, u64)> {
    // SAFETY: plain numbers all of it, for which zero is a value; it outlives the call.
    let mut status: libc::msqid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    check(unsafe { libc::msgctl(id, libc::IPC_STAT, &raw mut status) })?;
    Ok((common(&status.msg_perm), status.msg_qnum, status.msg_qbytes))
}

/// The message at this place in a queue, which stays there: its type, and its text of at most this
/// length. `None` when there are not as many.
///
/// # Errors
/// The kernel's: ENOSYS where it cannot do that.
pub fn message(id: i32, at: i32, longest: usize) -> io::Result<Option<(i64, Vec<u8>)>> {
    let word = size_of::<libc::c_long>();
    let mut buf: Vec<libc::c_long> = vec![0; 1 + longest.div_ceil(word)];
    let flags = MSG_COPY | libc::IPC_NOWAIT;
    // SAFETY: there are `longest` bytes behind the type.
    let got = unsafe {
        libc::msgrcv(id, buf.as_mut_ptr().cast(), longest, libc::c_long::from(at), flags)
    };
    if got < 0 {
        return match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ENOMSG) => Ok(None),
            e => Err(e),
        };
    }
    let text = buf[1..].iter().flat_map(|word| word.to_ne_bytes()).take(got as usize).collect();
    Ok(Some((buf[0], text)))
}

/// A new message queue.
///
/// # Errors
/// The kernel's: EEXIST when there is one with this key.
pub fn make_queue(common: Common, bytes_max: u64) -> io::Result<i32> {
    // SAFETY: plain numbers go in.
    let id = check(unsafe { libc::msgget(common.key, flags(common)) })?;
    // SAFETY: plain numbers all of it, for which zero is a value; it outlives the calls.
    let set = unsafe {
        let mut status: libc::msqid_ds = std::mem::zeroed();
        check(libc::msgctl(id, libc::IPC_STAT, &raw mut status)).and_then(|_| {
            (status.msg_perm.uid, status.msg_perm.gid) = (common.uid, common.gid);
            status.msg_qbytes = bytes_max;
            check(libc::msgctl(id, libc::IPC_SET, &raw mut status))
        })
    };
    kept(Kind::Queue, id, set.map(|_| ()))
}

/// Puts a message at the end of a queue.
///
/// # Errors
/// The kernel's: EAGAIN when there is no room.
pub fn put(id: i32, kind: i64, text: &[u8]) -> io::Result<()> {
    let word = size_of::<libc::c_long>();
    let mut buf: Vec<libc::c_long> = vec![kind];
    buf.extend(text.chunks(word).map(|part| {
        let mut bytes = [0; size_of::<libc::c_long>()];
        bytes[..part.len()].copy_from_slice(part);
        libc::c_long::from_ne_bytes(bytes)
    }));
    // SAFETY: the text is behind the type.
    let put = unsafe { libc::msgsnd(id, buf.as_ptr().cast(), text.len(), libc::IPC_NOWAIT) };
    check(put).map(|_| ())
}

/// Of a set of semaphores: what all have, and their values.
///
/// # Errors
/// The kernel's.
pub fn semaphores(id: i32) -> io::Result<(Common, Vec<u16>)> {
    // SAFETY: plain numbers all of it, for which zero is a value; it outlives the call.
    let mut status: libc::semid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    check(unsafe {
        libc::semctl(id, 0, libc::IPC_STAT, SemArgument { status: &raw mut status })
    })?;
    let mut values = vec![0; status.sem_nsems as usize];
    // SAFETY: a set never changes its size, and there is room for all of it.
    check(unsafe {
        libc::semctl(id, 0, libc::GETALL, SemArgument { array: values.as_mut_ptr() })
    })?;
    Ok((common(&status.sem_perm), values))
}

/// A new set of semaphores with these values.
///
/// # Errors
/// The kernel's: EEXIST when there is one with this key.
pub fn make_semaphores(common: Common, values: &mut [u16]) -> io::Result<i32> {
    let count = libc::c_int::try_from(values.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: plain numbers go in.
    let id = check(unsafe { libc::semget(common.key, count, flags(common)) })?;
    // SAFETY: the values are as many as the set has; the status is plain numbers, for which zero is
    // a value. Both outlive the calls.
    let set = unsafe {
        let mut status: libc::semid_ds = std::mem::zeroed();
        check(libc::semctl(id, 0, libc::SETALL, SemArgument { array: values.as_mut_ptr() }))
            .and_then(|_| {
                status.sem_perm.uid = common.uid;
                status.sem_perm.gid = common.gid;
                status.sem_perm.mode = common.mode as _;
                let status = SemArgument { status: &raw mut status };
                check(libc::semctl(id, 0, libc::IPC_SET, status))
            })
    };
    kept(Kind::Semaphores, id, set.map(|_| ()))
}

/// Of shared memory: what all have, and how long it is.
///
/// # Errors
/// The kernel's.
pub fn memory(id: i32) -> io::Result<(Common, u64)> {
    // SAFETY: plain numbers all of it, for which zero is a value; it outlives the call.
    let mut status: libc::shmid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    check(unsafe { libc::shmctl(id, libc::IPC_STAT, &raw mut status) })?;
    Ok((common(&status.shm_perm), status.shm_segsz as u64))
}

/// Shared memory that is attached, until this is dropped.
pub struct Attached {
    address: *mut u8,
    length: usize,
}

impl Attached {
    /// All of it, to be read or also written.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(id: i32, writes: bool) -> io::Result<Attached> {
        let (_, length) = memory(id)?;
        let flags = if writes { 0 } else { libc::SHM_RDONLY };
        // SAFETY: the kernel chooses where.
        let address = unsafe { libc::shmat(id, std::ptr::null(), flags) };
        if address as isize == -1 {
            return Err(io::Error::last_os_error());
        }
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(Attached { address: address.cast(), length })
    }

    /// Copies from there on, as much as there is room for; how much.
    pub fn read(&self, at: usize, buf: &mut [u8]) -> usize {
        let count = buf.len().min(self.length.saturating_sub(at));
        // SAFETY: that much is attached from there on. Others may write to it meanwhile: bytes are
        // bytes.
        unsafe { std::ptr::copy_nonoverlapping(self.address.add(at), buf.as_mut_ptr(), count) };
        count
    }

    /// Copies to there, as much as there is room for; how much. It must be attached for that.
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.length.saturating_sub(at));
        // SAFETY: that much is attached from there on.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address.add(at), count) };
        count
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // SAFETY: attached once, and nothing of it is borrowed.
        unsafe { libc::shmdt(self.address.cast()) };
    }
}

/// New shared memory, all of it zero.
///
/// # Errors
/// The kernel's: EEXIST when there is some with this key.
pub fn make_memory(common: Common, bytes: u64) -> io::Result<i32> {
    let length = usize::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: plain numbers go in.
    let id = check(unsafe { libc::shmget(common.key, length, flags(common)) })?;
    // SAFETY: plain numbers all of it, for which zero is a value; it outlives the call.
    let set = unsafe {
        let mut status: libc::shmid_ds = std::mem::zeroed();
        (status.shm_perm.uid, status.shm_perm.gid) = (common.uid, common.gid);
        status.shm_perm.mode = common.mode as _;
        check(libc::shmctl(id, libc::IPC_SET, &raw mut status))
    };
    kept(Kind::Memory, id, set.map(|_| ()))
}

fn kept(kind: Kind, id: i32, set: io::Result<()>) -> io::Result<i32> {
    match set {
        Ok(()) => Ok(id),
        Err(e) => {
            let _ = remove(kind, id);
            Err(e)
        }
    }
}

/// Removes an object.
///
/// # Errors
/// The kernel's.
pub fn remove(kind: Kind, id: i32) -> io::Result<()> {
    // SAFETY: plain numbers go in; nothing is pointed to by what removes.
    let removed = unsafe {
        match kind {
            Kind::Queue => libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()),
            Kind::Semaphores => libc::semctl(id, 0, libc::IPC_RMID, SemArgument { value: 0 }),
            Kind::Memory => libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()),
        }
    };
    check(removed).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mine(mode: u32) -> Common {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        Common { key: libc::IPC_PRIVATE, mode, uid, gid }
    }

    #[test]
    fn what_is_put_into_objects_is_found_there() {
        let id = make_queue(mine(0o600), 4_096).unwrap();
        put(id, 7, b"seven").unwrap();
        put(id, 1, b"").unwrap();
        let told = queue(id).unwrap();
        assert_eq!((told.0.mode, told.1, told.2), (0o600, 2, 4_096));
        match message(id, 0, 4_096) {
            // Where a message cannot be copied none is lost.
            Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => {}
            first => {
                assert_eq!(first.unwrap(), Some((7, b"seven".to_vec())));
                assert_eq!(message(id, 1, 4_096).unwrap(), Some((1, Vec::new())));
                assert_eq!(message(id, 2, 4_096).unwrap(), None);
            }
        }
        assert_eq!(queue(id).unwrap().1, 2);
        remove(Kind::Queue, id).unwrap();

        let id = make_semaphores(mine(0o640), &mut [3, 0, 9]).unwrap();
        let (common, values) = semaphores(id).unwrap();
        assert_eq!((common.mode, values), (0o640, vec![3, 0, 9]));
        remove(Kind::Semaphores, id).unwrap();

        let id = make_memory(mine(0o600), 5_000).unwrap();
        let mut attached = Attached::new(id, true).unwrap();
        assert_eq!(attached.write(4_990, &[8; 20]), 10);
        let mut buf = [1; 20];
        assert_eq!(attached.read(4_985, &mut buf), 15);
        assert_eq!(buf[..15], [[0; 5], [8; 5], [8; 5]].concat());
        assert_eq!(attached.read(9_999, &mut buf), 0);
        drop(attached);
        assert_eq!(memory(id).unwrap().1, 5_000);
        remove(Kind::Memory, id).unwrap();
        assert!(memory(id).is_err());
    }
}
