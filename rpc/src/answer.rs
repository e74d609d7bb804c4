//! How a request of the kernel's FUSE is answered that may have to wait for another process or
//! node: now if memory can, else from a task; always once, always in time.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// How long a request may take, and what it ends with if it takes longer.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// So long.
    pub after: Duration,
    /// This errno.
    pub errno: i32,
}

/// A request that takes longer is looked after: its caller may have been told to end. The kernel
/// does not let a caller go before its reply comes, and fuser does not take FUSE_INTERRUPT.
const LOOK_PERIOD: Duration = Duration::from_millis(50);

/// Does `work` and hands `reply` what came of it, or an errno: EINTR if `interrupted` says so
/// while it waits, the limit's past the deadline, EIO if it panicked.
pub fn answer<T, F, I, R>(runtime: &Handle, limit: Limit, work: F, interrupted: I, reply: R)
where
    I: Fn() -> bool + Send + 'static,
    T: Send + 'static,
    F: Future<Output = Result<T, i32>> + Send + 'static,
    R: FnOnce(Result<T, i32>) + Send + 'static,
{
    let _in_runtime = runtime.enter();
    let limited =
        async move { tokio::time::timeout(limit.after, work).await.unwrap_or(Err(limit.errno)) };
    let mut work = Box::pin(limited);
    let mut context = Context::from_waker(Waker::noop());
    match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut context))) {
        Ok(Poll::Ready(result)) => reply(result),
        Ok(Poll::Pending) => {
            // A task of its own for the work, so that its panic is seen and answered.
            let work = runtime.spawn(work);
            runtime.spawn(async move {
                tokio::select! {
                    result = work => reply(result.unwrap_or(Err(libc::EIO))),
                    () = wait_for(interrupted) => reply(Err(libc::EINTR)),
                }
            });
        }
        Err(_) => reply(Err(libc::EIO)),
    }
}

async fn wait_for(interrupted: impl Fn() -> bool) {
    let mut period = tokio::time::interval_at(Instant::now() + LOOK_PERIOD, LOOK_PERIOD);
    loop {
        period.tick().await;
        if interrupted() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LIMIT: Limit = Limit { after: Duration::from_millis(950), errno: libc::EHOSTDOWN };

    fn answered<F>(work: F) -> Result<u8, i32>
    where
        F: Future<Output = Result<u8, i32>> + Send + 'static,
    {
        answered_or_not(work, false)
    }

    fn answered_or_not<F>(work: F, interrupted: bool) -> Result<u8, i32>
    where
        F: Future<Output = Result<u8, i32>> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (tx, rx) = mpsc::channel();
        answer(
            runtime.handle(),
            LIMIT,
            work,
            move || interrupted,
            move |result| tx.send(result).unwrap(),
        );
        rx.recv_timeout(Duration::from_secs(5)).expect("every request is answered")
    }

    #[test]
    fn what_is_known_is_answered_on_the_spot() {
        assert_eq!(answered(async { Ok(7) }), Ok(7));
        assert_eq!(answered(async { Err(libc::ESRCH) }), Err(libc::ESRCH));
    }

    #[test]
    fn a_panic_is_an_error_of_one_request() {
        assert_eq!(answered(async { panic!("before waiting") }), Err(libc::EIO));
        let later = async {
            tokio::task::yield_now().await;
            panic!("after waiting")
        };
        assert_eq!(answered(later), Err(libc::EIO));
    }

    #[test]
    fn a_caller_that_is_told_to_end_is_let_go() {
        let begun = std::time::Instant::now();
        assert_eq!(answered_or_not(std::future::pending(), true), Err(libc::EINTR));
        assert!(begun.elapsed() < LIMIT.after / 2);
        assert_eq!(answered_or_not(async { Ok(7) }, true), Ok(7), "what is known is told");
    }

    #[test]
    fn nothing_waits_past_the_deadline() {
        assert_eq!(answered(std::future::pending()), Err(libc::EHOSTDOWN));
    }
}
