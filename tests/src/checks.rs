//! Named steps of a test.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// The steps so far, and which of them failed.
#[derive(Debug, Default)]
pub struct Checks {
    passed: usize,
    failed: Vec<String>,
}

impl Checks {
    /// One step: it fails if `body` panics, and the next one runs all the same. KRG_STEP, if set,
    /// picks those whose name contains it.
    pub fn check(&mut self, name: &str, body: impl FnOnce()) {
        if std::env::var("KRG_STEP").is_ok_and(|only| !name.contains(&only)) {
            return;
        }
        let begun = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(body));
        eprintln!("{:7.2} s  {name}", begun.elapsed().as_secs_f64());
        match ended {
            Ok(()) => self.passed += 1,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                self.failed.push(format!("{name}: {}", text.unwrap_or("it panicked")));
            }
        }
    }

    /// The end: says all that failed.
    #[track_caller]
    pub fn finish(self) {
        let Checks { passed, failed } = self;
        let picked = std::env::var_os("KRG_STEP").is_some();
        assert!(picked || passed + failed.len() > 0, "nothing was checked");
        let list = failed.join("\n- ");
        assert!(failed.is_empty(), "{} failed, {passed} passed:\n- {list}", failed.len());
    }
}
