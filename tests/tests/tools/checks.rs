//! Named steps of a test.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The steps so far, and which of them failed.
#[derive(Default)]
pub struct Checks {
    passed: usize,
    failed: Vec<String>,
}

impl Checks {
    /// One step: it fails if `body` panics, and the next one runs all the same.
    pub fn check(&mut self, name: &str, body: impl FnOnce()) {
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(()) => self.passed += 1,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                self.failed.push(format!("{name}: {}", text.unwrap_or("it panicked")));
            }
        }
    }

    /// The end: says all that failed.
    pub fn finish(self) {
        let Checks { passed, failed } = self;
        assert!(passed + failed.len() > 0, "nothing was checked");
        let list = failed.join("\n- ");
        assert!(failed.is_empty(), "{} failed, {passed} passed:\n- {list}", failed.len());
    }
}
