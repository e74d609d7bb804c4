//! Processes on their way into frames: of bounded size, and with what many of them share in each
//! once (environments, control groups, command lines). Pure.

use krg_rpc::proto::proc as wire;
use krg_types::limits::FRAME_BYTES_TARGET;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// A shorter text is no longer than the words about where it is.
const SHARED_BYTES_MIN: usize = 8;
/// What a process is on the wire besides its texts, bytes, about.
const PROC_BYTES: usize = 64;

/// Puts processes behind what the last frame holds, and into further ones as they fill up.
/// `shares`: the viewer knows what shared texts are.
pub fn fill(
    frames: &mut Vec<wire::Frame>,
    procs: impl Iterator<Item = wire::Proc>,
    shares: bool,
) {
    let mut bytes = 0;
    let mut shared = HashMap::new();
    for mut proc in procs {
        if bytes > FRAME_BYTES_TARGET {
            frames.push(wire::Frame::default());
            shared.clear();
            bytes = 0;
        }
        let Some(frame) = frames.last_mut() else { return };
        for (text, at) in [
            (&mut proc.cmdline, &mut proc.cmdline_at),
            (&mut proc.environ, &mut proc.environ_at),
            (&mut proc.cgroup, &mut proc.cgroup_at),
        ] {
            if shares && text.as_ref().is_some_and(|text| text.len() >= SHARED_BYTES_MIN) {
                *at = share(text.take().unwrap_or_default(), &mut shared, frame, &mut bytes);
            }
        }
        let own =
            [&proc.stat, &proc.status, &proc.statm, &proc.cmdline, &proc.environ, &proc.cgroup];
        bytes += PROC_BYTES + own.into_iter().flatten().map(Vec::len).sum::<usize>();
        frame.procs.push(proc);
    }
}

/// The text's place in the frame.
fn share(
    text: Vec<u8>,
    shared: &mut HashMap<Vec<u8>, u32>,
    frame: &mut wire::Frame,
    bytes: &mut usize,
) -> u32 {
    match shared.entry(text) {
        Entry::Occupied(known) => *known.get(),
        Entry::Vacant(new) => {
            *bytes += new.key().len();
            frame.texts.push(new.key().clone());
            // As many as a frame has bytes, at most.
            *new.insert(u32::try_from(frame.texts.len()).unwrap_or(0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{BadFrame, NodeView};
    use krg_types::{NodeId, PidFile};
    use std::sync::Arc;

    fn view() -> NodeView {
        NodeView::new(NodeId::new(1).expect("a node"))
    }

    fn proc(pid: u32, environ: &[u8]) -> wire::Proc {
        let cmdline = Some(format!("program-{pid}").into_bytes());
        wire::Proc { pid, cmdline, environ: Some(environ.to_vec()), ..Default::default() }
    }

    fn place(file: PidFile) -> usize {
        PidFile::SAMPLED.iter().position(|f| *f == file).expect("it travels")
    }

    #[test]
    fn what_is_shared_travels_once_and_arrives_everywhere() {
        let environ = vec![b'e'; 4 << 10];
        let mut frames = vec![wire::Frame::default()];
        fill(&mut frames, (1..=1_000).map(|pid| proc(pid, &environ)), true);
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].texts.len(), 1_001);
        let mut view = view();
        view.apply(frames.remove(0)).unwrap();
        let text = |pid: u32, file| view.procs[&pid].texts[place(file)].clone();
        for pid in [1, 500, 1_000] {
            assert_eq!(&*text(pid, PidFile::Environ), environ.as_slice());
            assert_eq!(&*text(pid, PidFile::Cmdline), format!("program-{pid}").as_bytes());
        }
        assert!(Arc::ptr_eq(&text(1, PidFile::Environ), &text(2, PidFile::Environ)), "kept once");
    }

    #[test]
    fn frames_are_bounded_and_each_is_whole_in_itself() {
        let mut frames = vec![wire::Frame::default()];
        let environ = |pid: u32| vec![pid as u8; 4 << 10];
        fill(&mut frames, (1..=1_000).map(|pid| proc(pid, &environ(pid))), true);
        assert!(frames.len() > 1);
        let mut view = view();
        for frame in frames {
            let bytes = krg_rpc::prost::Message::encoded_len(&frame);
            assert!(bytes < 2 * FRAME_BYTES_TARGET, "{bytes}");
            view.apply(frame).unwrap();
        }
        for (pid, process) in view.procs.iter() {
            assert_eq!(&*process.texts[place(PidFile::Environ)], environ(*pid).as_slice());
        }
        assert_eq!(view.procs.len(), 1_000);
    }

    #[test]
    fn who_does_not_know_shared_texts_gets_none() {
        let mut frames = vec![wire::Frame::default()];
        fill(
            &mut frames,
            [proc(1, b"A=1 and more"), proc(2, b"A=1 and more")].into_iter(),
            false,
        );
        assert!(frames[0].texts.is_empty());
        assert!(frames[0].procs.iter().all(|proc| proc.environ.is_some()));
    }

    #[test]
    fn an_empty_text_is_told_too() {
        let mut frames = vec![wire::Frame::default()];
        fill(&mut frames, [proc(1, b"A=1 and more")].into_iter(), true);
        fill(&mut frames, [proc(1, b"")].into_iter(), true);
        let mut view = view();
        view.apply(frames.remove(0)).unwrap();
        assert!(view.procs[&1].texts[place(PidFile::Environ)].is_empty());
    }

    #[test]
    fn a_place_that_is_not_there_is_refused() {
        for at in [1, u32::MAX] {
            let bad = wire::Proc { pid: 1, cgroup_at: at, ..Default::default() };
            let frame = wire::Frame { procs: vec![bad], ..Default::default() };
            assert_eq!(view().apply(frame), Err(BadFrame::Place(at)));
        }
    }
}
