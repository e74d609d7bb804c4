//! nodes/nrnodes: how many nodes there are.

/// Kerrighed's /proc/nodes/nrnodes: the nodes that answer, that were seen, and that may be.
pub fn nrnodes(online: usize, present: usize, possible: usize) -> Vec<u8> {
    format!("ONLINE:{online}\nPRESENT:{present}\nPOSSIBLE:{possible}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    #[test]
    fn three_lines() {
        assert_eq!(super::nrnodes(2, 3, 4), b"ONLINE:2\nPRESENT:3\nPOSSIBLE:4\n");
    }
}
