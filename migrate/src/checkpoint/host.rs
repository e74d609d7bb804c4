//! What a saved job needs of the machine that it is begun again on.

use serde::{Deserialize, Serialize};
use std::fs;
use std::io;

/// Instructions that programs choose by, once, when they begin (proc_cpuinfo(5)): what they have
/// chosen must be there. The other words there are of the kernel's own.
const INSTRUCTIONS: &[&str] = &[
    "fpu",
    "tsc",
    "cx8",
    "cmov",
    "mmx",
    "fxsr",
    "sse",
    "sse2",
    "ht",
    "lm",
    "pni",
    "pclmulqdq",
    "ssse3",
    "fma",
    "cx16",
    "sse4_1",
    "sse4_2",
    "movbe",
    "popcnt",
    "aes",
    "xsave",
    "avx",
    "f16c",
    "rdrand",
    "rdtscp",
    "lahf_lm",
    "abm",
    "sse4a",
    "xop",
    "fma4",
    "tbm",
    "3dnow",
    "3dnowext",
    "fsgsbase",
    "bmi1",
    "bmi2",
    "avx2",
    "erms",
    "rtm",
    "hle",
    "rdseed",
    "adx",
    "clflushopt",
    "clwb",
    "sha_ni",
    "xsaveopt",
    "xsavec",
    "xgetbv1",
    "avx512f",
    "avx512dq",
    "avx512bw",
    "avx512vl",
    "avx512cd",
    "avx512ifma",
    "avx512vbmi",
    "avx512_vbmi2",
    "avx512_vnni",
    "avx512_bitalg",
    "avx512_vpopcntdq",
    "avx512_bf16",
    "avx512_fp16",
    "avx_vnni",
    "gfni",
    "vaes",
    "vpclmulqdq",
    "rdpid",
    "movdiri",
    "movdir64b",
    "serialize",
    "fsrm",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "pku",
    "ospke",
    "waitpkg",
    "user_shstk",
];

/// A machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Host {
    /// As `uname -m` has it.
    pub architecture: String,
    /// As `uname -r` has it.
    pub kernel: String,
    /// What its processors can do.
    pub cpu: Vec<String>,
    /// The version of its CRIU.
    pub criu: String,
}

/// Why a job cannot be begun again here.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfit {
    /// Of another kind.
    #[error("it was saved on {0}, and this is {1}")]
    Architecture(String, String),
    /// Programs know what the kernel was.
    #[error("it was saved under Linux {0}, and this is Linux {1}, which is older")]
    Kernel(String, String),
    /// Programs use what is not here.
    #[error("it was saved where the processor has {0}, which this one has not")]
    Cpu(String),
    /// It does not read the images of a newer one.
    #[error("its images are of CRIU {0}, and this is CRIU {1}, which is older")]
    Criu(String, String),
}

impl Host {
    /// This one, with a CRIU of this version.
    ///
    /// # Errors
    /// The kernel's.
    pub fn here(criu: String) -> io::Result<Host> {
        let names = nix::sys::utsname::uname()?;
        let text = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
        Ok(Host {
            architecture: text(names.machine()),
            kernel: text(names.release()),
            cpu: cpu(&fs::read_to_string("/proc/cpuinfo")?),
            criu,
        })
    }

    /// For the node where it is to begin again.
    pub fn written(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// As it was written.
    ///
    /// # Errors
    /// For what is none.
    pub fn read(text: &str) -> Result<Host, String> {
        serde_json::from_str(text).map_err(|e| format!("the machine that it was saved on: {e}"))
    }

    /// Can what was saved on this machine be begun again on that one?
    ///
    /// # Errors
    /// Why not.
    pub fn fits(&self, here: &Host) -> Result<(), Unfit> {
        let both = |a: &String, b: &String| (a.clone(), b.clone());
        if self.architecture != here.architecture {
            let (saved, this) = both(&self.architecture, &here.architecture);
            return Err(Unfit::Architecture(saved, this));
        }
        if numbers(&here.kernel) < numbers(&self.kernel) {
            let (saved, this) = both(&self.kernel, &here.kernel);
            return Err(Unfit::Kernel(saved, this));
        }
        if let Some(missing) = self.cpu.iter().find(|flag| !here.cpu.contains(flag)) {
            return Err(Unfit::Cpu(missing.clone()));
        }
        if numbers(&here.criu) < numbers(&self.criu) {
            let (saved, this) = both(&self.criu, &here.criu);
            return Err(Unfit::Criu(saved, this));
        }
        Ok(())
    }
}

/// Of `6.12.9-amd64` the first two: what is behind them repairs and does not change.
fn numbers(version: &str) -> [u32; 2] {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    [(); 2].map(|()| numbers.next().and_then(Result::ok).unwrap_or(0))
}

/// What all processors have of it.
fn cpu(cpuinfo: &str) -> Vec<String> {
    let words = |line: &str| -> Option<Vec<String>> {
        let (name, value) = line.split_once(':')?;
        let all = match name.trim() {
            // Arm's are all of use to programs.
            "Features" => value.split_whitespace().map(str::to_owned).collect(),
            "flags" => (value.split_whitespace().filter(|w| INSTRUCTIONS.contains(w)))
                .map(str::to_owned)
                .collect(),
            _ => return None,
        };
        Some(all)
    };
    let all = cpuinfo.lines().filter_map(words);
    let common = all.reduce(|a, b| a.into_iter().filter(|word| b.contains(word)).collect());
    let mut common = common.unwrap_or_default();
    common.sort();
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(kernel: &str, cpu: &[&str], criu: &str) -> Host {
        let cpu = cpu.iter().map(|word| (*word).to_owned()).collect();
        let architecture = "x86_64".into();
        Host { architecture, kernel: kernel.into(), cpu, criu: criu.into() }
    }

    #[test]
    fn what_cannot_be_begun_again_is_told_why() {
        let saved = host("6.12.9-amd64", &["avx2", "sse2"], "4.1");
        assert_eq!(Host::read(&saved.written()), Ok(saved.clone()));
        assert!(Host::read("{}").is_err());
        assert_eq!(saved.fits(&saved), Ok(()));
        assert_eq!(saved.fits(&host("6.12.1", &["avx2", "sse2"], "4.1.1")), Ok(()));
        assert_eq!(saved.fits(&host("7.0", &["avx2", "pku", "sse2"], "5.0")), Ok(()));
        for (here, word) in [
            (Host { architecture: "aarch64".into(), ..saved.clone() }, "aarch64"),
            (host("6.1.0", &["avx2", "sse2"], "4.1"), "6.1.0"),
            (host("6.12.9", &["sse2"], "4.1"), "avx2"),
            (host("6.12.9", &["avx2", "sse2"], "4.0.9"), "4.0.9"),
        ] {
            let why = saved.fits(&here).unwrap_err().to_string();
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn what_all_processors_have_is_what_counts() {
        let text =
            "processor : 0\nflags : fpu avx2 pti nosuch\nprocessor : 1\nflags : fpu sse2\n";
        assert_eq!(cpu(text), ["fpu"]);
        assert_eq!(cpu("Features : fp asimd\n"), ["asimd", "fp"]);
        assert!(!Host::here("4.2".into()).unwrap().architecture.is_empty());
    }
}
