//! One line of the doctor's findings.

use serde::Serialize;

/// How well a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Absent, and something else is used instead; or merely worth knowing.
    Info,
    /// Present, but hidden from krg by `KRG_MASK`.
    Masked,
    /// Something will not work until it is mended.
    Warn,
    /// krg cannot work at all.
    Fail,
}

impl Level {
    /// The word in the table and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Info => "info",
            Level::Masked => "masked",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }
}

/// What was looked at, how it stands, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A short name that stays the same from release to release.
    pub check: String,
    /// How it stands.
    #[serde(rename = "state")]
    pub level: Level,
    /// What was found, and what it means.
    pub what: String,
    /// The command that mends it; empty where there is nothing to mend.
    pub mend: String,
}

impl Check {
    fn new(level: Level, check: &str, what: impl Into<String>, mend: &str) -> Self {
        Check { check: check.to_owned(), level, what: what.into(), mend: mend.to_owned() }
    }

    /// As it should be.
    pub fn ok(check: &str, what: impl Into<String>) -> Self {
        Self::new(Level::Ok, check, what, "")
    }

    /// A fallback is used. `mend` may be empty.
    pub fn info(check: &str, what: impl Into<String>, mend: &str) -> Self {
        Self::new(Level::Info, check, what, mend)
    }

    /// Present but masked.
    pub fn masked(check: &str, what: impl Into<String>) -> Self {
        Self::new(Level::Masked, check, what, "unset KRG_MASK")
    }

    /// Something does not work.
    pub fn warn(check: &str, what: impl Into<String>, mend: &str) -> Self {
        Self::new(Level::Warn, check, what, mend)
    }

    /// Nothing works.
    pub fn fail(check: &str, what: impl Into<String>, mend: &str) -> Self {
        Self::new(Level::Fail, check, what, mend)
    }
}
