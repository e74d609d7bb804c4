//! Answering some system calls of a command in its stead: seccomp(2) with a user notifier
//! (seccomp_unotify(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A call to be answered where one of its arguments is a number in a range.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    /// The system call.
    pub number: i64,
    /// Which argument is looked at, 0 or 1.
    pub argument: u8,
}

/// The range of numbers: `from..to`.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// The first.
    pub from: u32,
    /// Behind the last.
    pub to: u32,
}

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    id: u64,
    /// The thread that made it.
    pub tid: u32,
    /// The system call.
    pub number: i64,
    /// Its arguments.
    pub args: [u64; 6],
}

/// What comes of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It returns this.
    Value(i64),
    /// It fails with this errno.
    Errno(i32),
    /// These bytes are put at an address of the caller's, then it returns the value.
    Bytes(u64, Vec<u8>, i64),
    /// The kernel does it, as if nobody had looked.
    Go,
}

/// Where the calls arrive.
#[derive(Debug)]
pub struct Listener(OwnedFd);

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// Offsets in struct seccomp_data.
const AT_NUMBER: u32 = 0;
const AT_ARCH: u32 = 4;
const AT_ARGS: u32 = 16;
/// Instructions of one block that looks at an argument.
const BLOCK: u8 = 5;

fn op(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// The program: header, a jump per call, then a block per argument that compares the number.
fn program(calls: &[Watched], numbers: Numbers) -> Vec<libc::sock_filter> {
    let count = u8::try_from(calls.len()).unwrap_or(0);
    let mut out = vec![
        op(LOAD, AT_ARCH, 0, 0),
        op(IF_EQUAL, ARCH, 1, 0),
        op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
        op(LOAD, AT_NUMBER, 0, 0),
    ];
    for (i, call) in (0..count).zip(calls) {
        // Over the jumps that are left and the return behind them, to the block.
        let to = count - i - 1 + 1 + call.argument.min(1) * BLOCK;
        out.push(op(IF_EQUAL, u32::try_from(call.number).unwrap_or(u32::MAX), to, 0));
    }
    out.push(op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    for argument in 0..2 {
        out.extend([
            // The low half: a pid is an int.
            op(LOAD, AT_ARGS + 8 * argument, 0, 0),
            op(IF_LEAST, numbers.from, 0, 1),
            op(IF_LEAST, numbers.to, 0, 1),
            op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
            op(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0),
        ]);
    }
    out
}

/// From here on this thread, and all it starts, have the calls answered by whoever reads the
/// listener. They stay so; this thread must not make such a call itself.
///
/// # Errors
/// EBUSY where another listener is in force already, EACCES without CAP_SYS_ADMIN in the user
/// namespace.
pub fn listen(calls: &[Watched], numbers: Numbers) -> io::Result<Listener> {
    let mut program = program(calls, numbers);
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_mut_ptr(),
    };
    let flags =
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the program lives until the call returns, and its length is its own.
    let fd = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const filter) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor (close-on-exec), and nobody else owns it.
    Ok(Listener(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}

impl Listener {
    fn ioctl<T>(&self, request: libc::Ioctl, value: &mut T) -> io::Result<()> {
        // SAFETY: each request is used with the struct that it is defined for, which is alive.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), request, &raw mut *value) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The next call; `None` if its caller was killed meanwhile.
    ///
    /// # Errors
    /// The kernel's.
    pub fn next(&self) -> io::Result<Option<Call>> {
        // SAFETY: plain numbers all of them, for which zero is a value; the kernel wants zeros.
        let mut notif: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        match self.ioctl(libc::SECCOMP_IOCTL_NOTIF_RECV, &mut notif) {
            Ok(()) => {}
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        }
        let data = notif.data;
        Ok(Some(Call { id: notif.id, tid: notif.pid, number: data.nr.into(), args: data.args }))
    }

    /// Does its caller still wait? Only then is its tid still its own.
    pub fn waits(&self, call: &Call) -> bool {
        let mut id = call.id;
        self.ioctl(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &mut id).is_ok()
    }

    /// Answers a call. A caller that was killed meanwhile needs no answer.
    pub fn answer(&self, call: &Call, answer: Answer) {
        let (val, error, flags) = match answer {
            Answer::Value(value) => (value, 0, 0),
            Answer::Errno(errno) => (0, -errno, 0),
            Answer::Go => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
            Answer::Bytes(address, bytes, value) => match self.put(call, address, &bytes) {
                Ok(()) => (value, 0, 0),
                Err(_) => (0, -libc::EFAULT, 0),
            },
        };
        let mut reply = libc::seccomp_notif_resp { id: call.id, val, error, flags };
        let _ = self.ioctl(libc::SECCOMP_IOCTL_NOTIF_SEND, &mut reply);
    }

    /// Writes into the caller's memory.
    fn put(&self, call: &Call, address: u64, bytes: &[u8]) -> io::Result<()> {
        if !self.waits(call) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let local =
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let remote = libc::iovec { iov_base: address as *mut _, iov_len: bytes.len() };
        let tid = call.tid as libc::pid_t;
        // SAFETY: the local bytes are only read; the remote ones are another process's, checked
        // by the kernel.
        let n =
            unsafe { libc::process_vm_writev(tid, &raw const local, 1, &raw const remote, 1, 0) };
        match usize::try_from(n) {
            Ok(n) if n == bytes.len() => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would (bpf(4), the instructions used here).
    fn verdict(program: &[libc::sock_filter], arch: u32, number: u32, args: [u32; 2]) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let op = &program[at];
            at += 1;
            match op.code {
                LOAD => {
                    value = match op.k {
                        AT_NUMBER => number,
                        AT_ARCH => arch,
                        k => args[((k - AT_ARGS) / 8) as usize],
                    };
                }
                RETURN => return op.k,
                code => {
                    let yes = if code == IF_EQUAL { value == op.k } else { value >= op.k };
                    at += usize::from(if yes { op.jt } else { op.jf });
                }
            }
        }
    }

    #[test]
    fn only_the_calls_with_a_number_in_the_range_are_told() {
        let calls = [(7, 0), (8, 1), (9, 0)];
        let calls = calls.map(|(number, argument)| Watched { number, argument });
        let program = program(&calls, Numbers { from: 100, to: 200 });
        let told =
            |number, args| verdict(&program, ARCH, number, args) == libc::SECCOMP_RET_USER_NOTIF;
        assert!(told(7, [100, 0]) && told(7, [199, 0]) && told(8, [0, 150]) && told(9, [150, 0]));
        assert!(!told(7, [99, 150]) && !told(7, [200, 150]) && !told(8, [150, 0]));
        assert!(!told(6, [150, 150]) && !told(10, [150, 150]));
        let other = verdict(&program, ARCH + 1, 7, [150, 150]);
        assert_eq!(other, libc::SECCOMP_RET_ALLOW);
    }
}
