//! Every bound on what a peer, a file or a user may ask for, in one place.

/// Highest node number (8 node bits of a 30-bit cluster pid; 0 means "unqualified").
pub const NODE_ID_MAX: u32 = 255;
/// Bits of a cluster pid that hold the node's own pid: Linux's PID_MAX_LIMIT is 2^22.
pub const LOCAL_PID_BITS: u32 = 22;
/// The version of the words on the wire; a peer with another one is refused.
pub const PROTOCOL_VERSION: u32 = 1;
/// Longest message taken from a peer, bytes (one frame or one live file).
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// A frame is sent once it holds this many bytes; the rest follows in another.
pub const FRAME_BYTES_TARGET: usize = 512 << 10;
/// Processes taken from one node.
pub const PROCS_PER_NODE_MAX: usize = 1 << 20;
/// Longest text of one process kept in a sample, bytes; a longer one is read live.
pub const SAMPLED_TEXT_BYTES_MAX: usize = 8 << 10;
/// Longest whole-system file taken from a node, bytes.
pub const SYSTEM_FILE_BYTES_MAX: usize = 1 << 20;
/// Longest live file or directory of one process, bytes.
pub const LIVE_BYTES_MAX: usize = 4 << 20;
/// Entries of one live directory (fd/, task/).
pub const LIVE_ENTRIES_MAX: usize = 65_536;
/// Signals are numbered up to here (signal(7)).
pub const SIGNAL_NUMBER_MAX: i32 = 64;
/// Supplementary groups that travel with a caller (Linux's NGROUPS_MAX).
pub const GROUPS_MAX: usize = 65_536;
/// Longest name of one directory entry, bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest cluster name, bytes.
pub const CLUSTER_NAME_BYTES_MAX: usize = 64;
/// CPUs taken from one node (Linux's largest NR_CPUS).
pub const CPUS_PER_NODE_MAX: u32 = 8192;
/// Nodes of one lab.
pub const LAB_NODES_MAX: u32 = 64;
/// Wants waiting on one subscription before the viewer is cut off.
pub const WANTS_WAITING_MAX: usize = 64;
/// Handles (open files and directories) of one mount.
pub const HANDLES_MAX: usize = 1 << 20;
/// Mounts one daemon serves.
pub const MOUNTS_MAX: usize = 64;
/// Mounts of nodes' file trees one daemon serves: a few directories with an entry for each node.
pub const NODE_MOUNTS_MAX: usize = 1024;
/// Processes that have selected a node, in one directory of the nodes' file trees.
pub const SELECTIONS_MAX: usize = 4096;
/// Threads that were told to walk again, in one such directory.
pub const TOLD_MAX: usize = 4096;
/// Longest text that a file of such a directory takes, bytes.
pub const SELECTION_BYTES_MAX: usize = 64;
/// Longest key of the configuration, bytes.
pub const CONFIG_KEY_BYTES_MAX: usize = 256;
/// Longest value of the configuration, bytes.
pub const CONFIG_VALUE_BYTES_MAX: usize = 8 << 10;
/// Keys of the configuration.
pub const CONFIG_KEYS_MAX: usize = 65_536;
/// Longest address of a node (a host name and a port), bytes.
pub const ADDRESS_BYTES_MAX: usize = 256;
/// Tokens that are not used up yet.
pub const TOKENS_MAX: usize = 1024;
/// Tokens made by one command.
pub const TOKENS_PER_REQUEST_MAX: u32 = 255;
/// Longest note of a token, bytes.
pub const NOTE_BYTES_MAX: usize = 256;
/// Lines of a node map.
pub const MAP_ENTRIES_MAX: usize = 256;
/// Commands of one log entry.
pub const BATCH_COMMANDS_MAX: usize = 512;
/// Bytes of one command in its stored form.
pub const COMMAND_BYTES_MAX: usize = 64 << 10;
/// Bytes of the commands of one log entry.
pub const BATCH_BYTES_MAX: usize = 128 << 10;
/// Bytes of one snapshot of a group's state.
pub const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;
/// A certificate or a request for one, bytes.
pub const CERTIFICATE_BYTES_MAX: usize = 8 << 10;
/// Certificate authorities trusted at once.
pub const AUTHORITIES_MAX: usize = 4;
/// Connections that have not finished their handshake.
pub const HANDSHAKES_MAX: usize = 64;
/// The first Raft group: membership and configuration.
pub const GROUP_MAIN: u32 = 0;
/// Clocks of machines and lifetimes of certificates may differ by so much, seconds.
pub const CLOCK_GRACE_S: u64 = 3600;
/// Named sets of nodes.
pub const SETS_MAX: usize = 1024;
/// Sequences.
pub const SEQUENCES_MAX: usize = 4096;
/// Leases.
pub const LEASES_MAX: usize = 65_536;
/// Longest lease, ms.
pub const LEASE_MS_MAX: u64 = 86_400_000;
/// Replies kept for a proposer that does not say which ones it has.
pub const REPLIES_KEPT_MAX: u64 = 4096;
/// Proposals that one node has under way.
pub const PROPOSALS_WAITING_MAX: usize = 2048;
/// Longest time a join token is good for, ms.
pub const TOKEN_MS_MAX: u64 = 30 * 86_400_000;
/// Longest payload of one packet of the gossip, bytes: with its seal it fits a UDP datagram.
pub const GOSSIP_PAYLOAD_BYTES_MAX: usize = 60 << 10;
/// Packets of one sender that may arrive out of order, a multiple of 64.
pub const GOSSIP_REPLAY_WINDOW: usize = 2048;
/// Entries of one message of the gossip: every node, and some that are about to be forgotten.
pub const GOSSIP_ENTRIES_MAX: usize = 1024;
/// Unpacked bytes of one message of the gossip.
pub const GOSSIP_UNPACKED_BYTES_MAX: usize = 256 << 10;
/// Longest load vector in its text form, bytes.
pub const LOAD_BYTES_MAX: usize = 128;
/// Longest head of one frame of the file data connections, bytes: a list of names, or a caller
/// in all of the groups there may be.
pub const FRAME_HEAD_BYTES_MAX: usize = 1 << 20;
/// Longest data of one frame, bytes: one read or write.
pub const FRAME_DATA_BYTES_MAX: usize = 1 << 20;
/// Bytes that may wait to be sent on one connection before its peer's requests are not read on.
pub const LINK_WAITING_BYTES_MAX: usize = 16 << 20;
/// Connections of one file server.
pub const FILE_LINKS_MAX: usize = 1024;
/// Threads that work for one connection of a file server's client.
pub const FILE_THREADS_PER_LINK_MAX: usize = 64;
/// Requests of one client that its file server has not answered.
pub const FILE_REQUESTS_MAX: usize = 4096;
/// Open files of all clients of one file server.
pub const FILE_OPENS_MAX: usize = 16_384;
/// Answers that are kept for a client that may ask again: more than it can have under way.
pub const FILE_REPLIES_MAX: usize = 4096;
/// Questions of one client that are known not to be waited for any more, and have not come yet.
pub const FILE_CANCELS_MAX: usize = 1024;
/// Files that a file server still watches though no client has them open any more.
pub const FILE_MARKS_IDLE_MAX: usize = 4096;
/// Files of which one client is told when they change. More are forgotten, and it is told so.
pub const FILE_PROMISES_MAX: usize = 1 << 18;
/// Files that a client lets go of in one message.
pub const FILE_FORGETS_MAX: usize = 4096;
/// Longest target of a symbolic link, bytes (PATH_MAX with its end).
pub const LINK_TARGET_BYTES_MAX: usize = 4096;
/// Longest value of an extended attribute, and longest list of their names, bytes (xattr(7)).
pub const XATTR_BYTES_MAX: usize = 65_536;
/// Bytes of one list of names that is asked for at once.
pub const DIR_BYTES_MAX: u32 = 256 << 10;
/// Longest handle of a file as a client keeps it, bytes.
pub const FILE_HANDLE_BYTES_MAX: usize = 176;
/// Bytes that one call copies within a file server (copy_file_range(2)): it must end in time.
pub const COPY_BYTES_MAX: u64 = 64 << 20;
/// Longest message to or from the supervisor of a job, bytes: arguments and environment are bounded
/// by the kernel (execve(2): a quarter of the stack, 2 MiB where that has the usual size).
pub const JOB_MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Arguments and variables of a job.
pub const JOB_WORDS_MAX: usize = 65_536;
/// What the holder of a job keeps for one terminal that does not read, bytes. Then the job waits.
pub const JOB_OUTPUT_BYTES_MAX: usize = 256 << 10;
/// Longest name of a job, bytes.
pub const JOB_NAME_BYTES_MAX: usize = 64;
/// Bytes of one part of what is said on a connection for a move: a piece of an image.
pub const BULK_PART_BYTES_MAX: usize = 1 << 20;
/// Connections for moves, of which it is not known yet for whom they are.
pub const BULK_COMING_MAX: usize = 64;
/// Files of a job that the node where it goes is told of.
pub const JOB_PATHS_MAX: usize = 256;
/// Images of one job: CRIU makes a dozen, and six for each process.
pub const IMAGES_MAX: usize = 1 << 20;
/// Bytes that may be on their way between a job and what is outside of it, each way.
pub const JOB_CHANNEL_BYTES_MAX: usize = 256 << 10;
/// Node n gives its jobs process numbers from `n << JOB_NODE_SHIFT` on: below those of the cluster,
/// for 127 nodes.
pub const JOB_NODE_SHIFT: u32 = 15;
/// Process numbers that a job has of its own, from which no other namespace takes any.
pub const JOB_PIDS: u32 = 512;
/// Longest manifest of a saved job, bytes: it names every image.
pub const MANIFEST_BYTES_MAX: usize = 64 << 20;
/// Longest description of a saved job, bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 4_096;
/// Files that go along with a saved job.
pub const SAVED_FILES_MAX: usize = 65_536;
/// Processes, and jobs, whose capabilities are kept because somebody has changed them.
pub const CAPABILITY_RECORDS_MAX: usize = 16_384;
/// A part of what a viewer tells a command is sent once it holds this many bytes.
pub const VIEW_PART_BYTES_TARGET: usize = 128 << 10;
/// Longest text of one process that a viewer tells a command, bytes: what procps reads of one.
pub const VIEW_TEXT_BYTES_MAX: usize = 128 << 10;
/// Commands that a viewer answers at once.
pub const VIEW_SNAPSHOTS_MAX: usize = 32;
