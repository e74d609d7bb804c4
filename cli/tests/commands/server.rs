//! A krgd of the test's own on a socket of its own: it writes down what it is asked, and gives the
//! answers that the test put there.

use krg_rpc::proto::control::control_server::{Control, ControlServer};
use krg_rpc::proto::control::*;
use krg_rpc::tonic::transport::Server as Tonic;
use krg_rpc::tonic::{self, Request, Response, Status, Streaming};
use std::any::Any;
use std::collections::HashMap;
use std::os::unix::process::CommandExt;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use tokio_stream::{Stream, StreamExt};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Anything = Box<dyn Any + Send>;

#[derive(Default)]
struct Shared {
    asked: Mutex<Vec<(&'static str, Anything)>>,
    answers: Mutex<HashMap<&'static str, Anything>>,
    /// After their answers these go on without an end.
    endless: Mutex<Vec<&'static str>>,
}

/// The krgd. It ends with the test.
pub struct Krgd {
    dir: tempfile::TempDir,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub out: String,
    pub err: String,
    pub code: i32,
}

impl Said {
    /// Standard output of a command that went well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// It failed with this code and these words on standard error.
    #[track_caller]
    pub fn failed(self, code: i32, words: &[&str]) -> Said {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "`{word}` is not in: {}", self.err);
        }
        self
    }
}

impl Krgd {
    pub fn start() -> Krgd {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let dir = tempfile::tempdir().expect("a folder");
        let shared = Arc::new(Shared::default());
        let service = Service(shared.clone());
        let path = dir.path().join("krgd.sock");
        // Bound before anybody asks.
        let socket = runtime.block_on(async { tokio::net::UnixListener::bind(path) });
        let incoming = tokio_stream::wrappers::UnixListenerStream::new(socket.expect("a socket"));
        runtime.spawn(async move {
            let server = Tonic::builder().add_service(ControlServer::new(service));
            server.serve_with_incoming(incoming).await.expect("it serves")
        });
        Krgd { dir, shared, _runtime: runtime }
    }

    /// The next and all further answers to one kind of question.
    pub fn answer<T: Send + 'static>(&self, method: &'static str, answer: Result<T, Status>) {
        self.shared.answers.lock().unwrap().insert(method, Box::new(answer));
    }

    /// The answers to a question that is answered bit by bit.
    pub fn stream<T: Send + 'static>(&self, method: &'static str, all: Vec<Result<T, Status>>) {
        self.shared.answers.lock().unwrap().insert(method, Box::new(all));
    }

    /// The same, and then it is silent.
    pub fn endless<T: Send + 'static>(&self, method: &'static str, all: Vec<Result<T, Status>>) {
        self.stream(method, all);
        self.shared.endless.lock().unwrap().push(method);
    }

    /// The only question of one kind so far; it is forgotten.
    #[track_caller]
    pub fn asked<T: 'static>(&self, method: &str) -> T {
        let mut asked = self.shared.asked.lock().unwrap();
        let at: Vec<_> = (0..asked.len()).filter(|i| asked[*i].0 == method).collect();
        assert_eq!(at.len(), 1, "questions for {method}");
        *asked.remove(at[0]).1.downcast().expect("of this type")
    }

    /// How often it was asked for this.
    pub fn times(&self, method: &str) -> usize {
        self.shared.asked.lock().unwrap().iter().filter(|(m, _)| *m == method).count()
    }

    /// Runs `krg` under a name, with words and standard input, as `line` says: `krgadm nodes`.
    pub fn run(&self, line: &str) -> Said {
        self.command(&line.split(' ').collect::<Vec<_>>(), "")
    }

    pub fn command(&self, words: &[&str], input: &str) -> Said {
        let socket = self.dir.path().join("krgd.sock");
        run(words, input, &[("KRG_SOCKET", &socket.to_string_lossy())])
    }

    /// Starts a command, for a test that ends it.
    pub fn spawn(&self, line: &str) -> Child {
        let words: Vec<&str> = line.split(' ').collect();
        let socket = self.dir.path().join("krgd.sock");
        spawn(&words, &[("KRG_SOCKET", &socket.to_string_lossy())])
    }

    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}

fn spawn(words: &[&str], environment: &[(&str, &str)]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_krg"))
        .arg0(words[0])
        .args(&words[1..])
        .env_remove("KRG_TOKEN")
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("krg starts")
}

pub fn run(words: &[&str], input: &str, environment: &[(&str, &str)]) -> Said {
    let mut child = spawn(words, environment);
    // A command that does not read its input may be gone by now.
    let _ = std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), input.as_bytes());
    let output = child.wait_with_output().expect("krg ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().unwrap_or(-1);
    assert_ne!(code, 101, "a panic is no answer: {}", text(&output.stderr));
    Said { out: text(&output.stdout), err: text(&output.stderr), code }
}

struct Service(Arc<Shared>);

impl Service {
    fn note<Q: Send + 'static>(&self, method: &'static str, question: Q) {
        self.0.asked.lock().unwrap().push((method, Box::new(question)));
    }

    fn one<T: Clone + 'static>(&self, method: &'static str) -> Result<Response<T>, Status> {
        let answers = self.0.answers.lock().unwrap();
        let answer = answers.get(method).and_then(|a| a.downcast_ref::<Result<T, Status>>());
        answer.cloned().unwrap_or(Err(Status::unimplemented(""))).map(Response::new)
    }

    fn many<T: Clone + Send + 'static>(
        &self,
        method: &'static str,
    ) -> Result<Response<Answers<T>>, Status> {
        let answers = self.0.answers.lock().unwrap();
        let all = answers.get(method).and_then(|a| a.downcast_ref::<Vec<Result<T, Status>>>());
        let all = all.cloned().ok_or_else(|| Status::unimplemented(""))?;
        let all = tokio_stream::iter(all);
        match self.0.endless.lock().unwrap().contains(&method) {
            true => Ok(Response::new(Box::pin(all.chain(tokio_stream::pending())))),
            false => Ok(Response::new(Box::pin(all))),
        }
    }
}

macro_rules! control {
    ($($method:ident $question:ident $answer:ident,)*
     ; $($stream:ident $method_s:ident $question_s:ident $answer_s:ident,)*) => {
        #[tonic::async_trait]
        impl Control for Service {
            $(async fn $method(&self, ask: Request<$question>)
                -> Result<Response<$answer>, Status> {
                self.note(stringify!($method), ask.into_inner());
                self.one(stringify!($method))
            })*

            $(type $stream = Answers<$answer_s>;
            async fn $method_s(&self, ask: Request<$question_s>)
                -> Result<Response<Self::$stream>, Status> {
                self.note(stringify!($method_s), ask.into_inner());
                self.many(stringify!($method_s))
            })*

            async fn restore(&self, ask: Request<Streaming<Piece>>)
                -> Result<Response<Done>, Status> {
                let mut pieces = ask.into_inner();
                let mut all = Vec::new();
                while let Some(piece) = pieces.next().await {
                    match piece {
                        Ok(piece) => all.push(piece),
                        Err(status) => {
                            self.note("restore cut short", status.clone());
                            return Err(status);
                        }
                    }
                }
                self.note("restore", all);
                self.one("restore")
            }
        }
    };
}

control! {
    status StatusRequest StatusReply,
    wait_online WaitOnlineRequest StatusReply,
    mount_proc MountProcRequest MountProcReply,
    mount_mfs MountMfsRequest MountMfsReply,
    mount_node MountNodeRequest MountNodeReply,
    cluster_status StatusRequest ClusterReply,
    init InitRequest Done,
    join JoinRequest JoinReply,
    leave LeaveRequest Done,
    power_off PowerOffRequest Done,
    recover RecoverRequest Done,
    nodes_del NodesDelRequest NodesDelReply,
    map_get MapRequest Map,
    map_set Map Done,
    token_create TokenCreateRequest TokenCreateReply,
    token_list TokenListRequest TokenListReply,
    token_revoke TokenRevokeRequest Done,
    config_get ConfigGetRequest ConfigReply,
    config_set ConfigSetRequest ConfigSetReply,
    metrics StatusRequest Piece,
    signal SignalRequest SignalReply,
    renice ReniceRequest SignalReply,
    ;
    MembersStream members MembersRequest MemberList,
    RotateCaStream rotate_ca RotateCaRequest Progress,
    NodesAddStream nodes_add NodesAddRequest NodesAddProgress,
    ConfigWatchStream config_watch ConfigWatchRequest ConfigEvent,
    BackupStream backup BackupRequest Piece,
}
