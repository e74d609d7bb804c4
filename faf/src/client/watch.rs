//! Looks after deadlines, and after callers that have been told to end, while anything waits.

use super::Client;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How often at deadlines.
const PERIOD: Duration = Duration::from_millis(20);
/// And at callers, which takes longer: a question younger than that is nobody's worry.
const CALLERS_PERIOD: Duration = Duration::from_millis(50);
/// With nothing to look after, it is looked so often whether the client is still there.
const IDLE_PERIOD: Duration = Duration::from_secs(5);

pub(super) fn run(client: &Weak<Client>) {
    let mut callers_at = Instant::now();
    while let Some(client) = client.upgrade() {
        if is_needed(&client) {
            // Only time tells; new questions need no wake-up.
            std::thread::park_timeout(PERIOD);
            let now = Instant::now();
            if now >= callers_at {
                callers_at = now + CALLERS_PERIOD;
                look_at_callers(&client, now);
            }
            look(&client, now);
        }
    }
}

/// Does anything wait? Waits for it for a while.
fn is_needed(client: &Client) -> bool {
    let ticking = client.ticking.lock().unwrap_or_else(PoisonError::into_inner);
    if *ticking {
        return true;
    }
    let waited = client.tick.wait_timeout(ticking, IDLE_PERIOD);
    *waited.unwrap_or_else(PoisonError::into_inner).0
}

fn look_at_callers(client: &Client, now: Instant) {
    for (id, pending) in client.table.interrupted(now, CALLERS_PERIOD) {
        client.cancel(id, pending.sent);
        (pending.done)(Err(libc::EINTR));
    }
}

fn look(client: &Arc<Client>, now: Instant) {
    let (late, silent) = client.table.late(now, super::PROBE_MAX);
    if silent {
        client.doubt();
    }
    for (id, pending) in late {
        client.cancel(id, pending.sent);
        (pending.done)(Err(libc::EHOSTDOWN));
    }
    let mut ticking = client.ticking.lock().unwrap_or_else(PoisonError::into_inner);
    *ticking = !client.table.is_empty();
}
