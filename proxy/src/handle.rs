//! A running proxy: started, asked, stopped.

use std::fmt;
use std::future::pending;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nono_audit::{
    Batch, Bounds, Consumer, FileSink, Log, Metrics, Reader, Record, Sender, Session, Sink,
};
use rustix::net::sockopt::set_tcp_nodelay;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::config::{ProxyConfig, Settings};
use crate::descriptors::make_room;
use crate::environment;
use crate::error::StartError;
use crate::intercept::{Bundle, Interception};
use crate::loopback::send_at_once;
use crate::otlp::{Collector, Export, Source};
use crate::prepare::{self, Diagnostic, prepare};
use crate::server::{self, Prepared};
use crate::stack::Shared;
use crate::token::Token;

/// A running proxy. Dropping it cuts what runs; [`ProxyHandle::shutdown`] lets it finish first.
///
/// The futures of this type need no particular runtime: the proxy runs on threads of its own. A
/// child that is forked has a copy of a handle and none of those threads: it must neither drop nor
/// use it, but for its addresses and variables, which never change.
pub struct ProxyHandle {
    shared: Arc<Shared>,
    log: Log,
    /// The consumer behind [`ProxyHandle::drain_audit`].
    records: Mutex<Consumer>,
    /// When what still runs is cut, once a shutdown has begun; `None` is never.
    deadline: watch::Sender<Option<Instant>>,
    /// Cancelled when every thread is about to end.
    ended: CancellationToken,
    threads: Mutex<Vec<JoinHandle<()>>>,
    metrics_addr: Option<SocketAddr>,
    /// What sends records to a collector.
    export: Option<Export>,
}

impl ProxyHandle {
    /// Starts a proxy: judges `config`, listens, and loads the credentials. A credential that
    /// cannot be loaded is a [`Diagnostic`]; its route answers 503 until it can.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(config: ProxyConfig) -> Result<Self, StartError> {
        let settings = Settings::parse(&config)?;
        let interception = match &settings.intercept {
            Some(plan) => Some(Interception::new(plan, &settings.routes)?),
            None => None,
        };
        let (listener, addr) = listen(settings.bind)?;
        // Each client's connection, and one upstream for it. Who starts a proxy may wait for it.
        make_room(&listener, 2 * settings.max_sockets());
        let token = Token::generate().map_err(std::io::Error::other)?;
        let admin = config.metrics.map(listen).transpose()?;
        let metrics_addr = admin.as_ref().map(|(_, addr)| *addr);
        let Recording { sender, log, records, export, metrics } =
            Recording::begin(&config, &settings)?;
        let admin = admin.map(|(listener, _)| (listener, metrics));
        let shared = Shared::new(settings, addr, token, sender);
        let shared = Arc::new(Shared { interception, ..shared });
        let (deadline, until) = watch::channel(None);

        let ended = CancellationToken::new();
        let done = Arc::new(ended.clone().drop_guard());
        let control = Prepared::new("nono-control".into())?;
        let mut workers = server::spawn_workers(&shared, &done).inspect_err(|_| {
            shared.drain.begin();
        })?;
        drop(done);
        let mut threads = std::mem::take(&mut workers.threads);
        let (ready, prepared) = oneshot::channel();
        let task = {
            let (shared, ended) = (Arc::clone(&shared), ended.clone());
            async move {
                // Dropped by a `start` that was cancelled; its handle's drop ends this too.
                let serving = async {
                    let preparing = prepare(&shared);
                    let Some(found) = shared.drain.run_until_begun(preparing).await else { return };
                    let _ = ready.send(found);
                    workers.accept(listener, Arc::clone(&shared)).await;
                    drain(&shared, until, &ended).await;
                };
                tokio::select! {
                    () = serving => {}
                    () = admin::answer_to(admin, &shared) => {}
                    () = prepare::keep(&shared) => {}
                }
            }
        };
        threads.push(control.spawn(task).inspect_err(|_| shared.drain.begin())?);
        let handle = Self {
            shared,
            log,
            records: Mutex::new(records),
            deadline,
            ended,
            threads: Mutex::new(threads),
            metrics_addr,
            export,
        };
        let lost = |_| std::io::Error::other("the listener was lost");
        prepared.await.map_err(lost)??;
        Ok(handle)
    }

    /// The address that the proxy listens on.
    pub fn addr(&self) -> SocketAddr {
        self.shared.addr
    }

    /// Whether a shutdown has begun.
    pub fn is_ending(&self) -> bool {
        self.shared.drain.has_begun()
    }

    /// The address of the listener for metrics, if there is one.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_addr
    }

    /// The variables that lead HTTP clients to the proxy, session token included.
    pub fn env_vars(&self) -> Vec<(String, String)> {
        environment::proxy_variables(&self.shared)
    }

    /// The variables that lead SDKs to the routes: base URLs, and the session token as key.
    pub fn credential_env_vars(&self) -> Vec<(String, String)> {
        environment::route_variables(&self.shared.settings, self.shared.addr, &self.shared.token)
    }

    /// The files that the variables name, which clients must be able to read; none without
    /// interception.
    pub fn certificate_files(&self) -> Vec<PathBuf> {
        let bundle = self.shared.interception.iter().map(Interception::bundle);
        bundle.flat_map(Bundle::paths).map(Path::to_path_buf).collect()
    }

    /// Takes the audit records out, oldest first. Also after the shutdown.
    ///
    /// When the log is full, and a file or a collector has its records, the oldest are let go of:
    /// then the first one taken is of [`nono_audit::Phase::Gap`], counts them and says where they
    /// are. Without file and collector the log stays full, and requests are refused.
    pub fn drain_audit(&self) -> Vec<Record> {
        self.consumer().drain()
    }

    /// Takes the audit records out as `take` makes something of them as they lie in the log, without
    /// a copy. It is asked again when a call beside this one has taken them first.
    ///
    /// # Errors
    /// What `take` returns. Then no record counts as taken.
    pub fn drain_audit_by<T, E>(
        &self,
        mut take: impl FnMut(&[Batch]) -> Result<T, E>,
    ) -> Result<T, E> {
        loop {
            let peeked = self.consumer().peek_all();
            let reading = Reading(self);
            // Without the lock: a program may call this from there again.
            let taken = take(&peeked)?;
            if self.consumer().commit_all(&peeked) {
                return Ok(taken);
            }
            drop(reading);
        }
    }

    /// Hands the audit records to `take` as JSON Lines, in pieces, with how many bytes all are likely
    /// to have; see [`Consumer::drain_lines`].
    ///
    /// # Errors
    /// What `take` returns. Then no record counts as taken.
    pub fn drain_audit_lines<E>(
        &self,
        take: impl FnMut(&[u8], usize) -> Result<(), E>,
    ) -> Result<(), E> {
        self.consumer().drain_lines(take)
    }

    fn consumer(&self) -> MutexGuard<'_, Consumer> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A further consumer of the audit records, which sees all that are still held and all that
    /// come. The log holds each until all consumers have it, [`ProxyHandle::drain_audit`] included.
    pub fn audit_consumer(&self) -> Consumer {
        self.log.subscribe(Reader::holding(prepare::ITERATOR))
    }

    /// The exchanges that run now, as records of what is known of them so far.
    pub fn active(&self) -> Vec<Record> {
        self.log.active()
    }

    /// What fails requests now, or soon will: routes whose credential could not be fetched when it
    /// was last tried (one that is there by now is found by the next request, or by a reload), an
    /// authority for interception that is about to end or did, and a log of records that fills,
    /// sheds strangers' refusals, or is kept from its file or collector. Also after the shutdown.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut found = prepare::diagnostics(&self.shared);
        let faults = self.log.faults().into_iter();
        found.extend(faults.map(|(sink, why)| Diagnostic::of_sink(sink, &why)));
        let overflow = self.shared.settings.limits.audit_overflow;
        found.extend(self.log.filling().map(|filling| Diagnostic::of_log(&filling, overflow)));
        found.extend(Diagnostic::of_strangers(self.log.shed()));
        found.extend(self.export.iter().flat_map(Export::diagnostics));
        found
    }

    /// Has `alarm` called when the log of records begins to be full, on a thread that it must not
    /// hold up. Only the first one counts.
    pub fn warn_by(&self, alarm: impl Fn(Diagnostic) + Send + Sync + 'static) {
        let overflow = self.shared.settings.limits.audit_overflow;
        self.log.warn_by(move |filling| alarm(Diagnostic::of_log(&filling, overflow)));
    }

    /// Fetches all credentials again, and returns what failed. Requests under way keep what they
    /// have; a value that is still valid is not given up because a new one cannot be had.
    ///
    /// # Cancel safety
    /// The fetching goes on when this is cancelled.
    pub async fn reload_credentials(&self) -> Vec<Diagnostic> {
        let reloading = prepare::reload(&self.shared);
        self.ended.run_until_cancelled(reloading).await;
        self.diagnostics()
    }

    /// Stops: accepts nothing more, lets requests and tunnels finish for up to `grace`, then
    /// cuts the rest. Returns when every thread has ended and the port is free; where records are
    /// sent to a collector, that may take [`crate::OtlpConfig::flush`] more. Of several calls the
    /// one whose `grace` is over first counts, and all wait.
    ///
    /// # Cancel safety
    /// The shutdown goes on when this is cancelled.
    pub async fn shutdown(&self, grace: Duration) {
        let new = Instant::now().checked_add(grace);
        self.deadline.send_if_modified(|deadline| {
            let is_sooner = new.is_some() && deadline.is_none_or(|old| new < Some(old));
            if is_sooner {
                *deadline = new;
            }
            is_sooner
        });
        self.shared.drain.begin();
        self.ended.cancelled().await;
        self.join();
        if let Some(export) = &self.export {
            export.finish().await;
        }
    }

    /// Stops at once: cuts what runs. Blocks until every thread has ended, and as a shutdown does for
    /// what a collector has not taken. Dropping the handle does it, and after this only that little.
    pub fn cut(&self) {
        self.shared.audit.close();
        self.shared.cut.cancel();
        self.shared.drain.begin();
        self.join();
        if let Some(export) = &self.export {
            export.join();
        }
    }

    /// Waits for the end of all threads, and then ends the log: what they drop in ending, streams of
    /// HTTP/2 that nobody polls any more, still writes its records.
    fn join(&self) {
        // Held to the end, so that nobody returns before the one who does it.
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A panic in it has been reported by its hook; there is nothing left to undo.
            let _ = thread.join();
        }
        self.log.end();
        if let Some(interception) = &self.shared.interception {
            interception.bundle().remove();
        }
    }
}

impl Drop for ProxyHandle {
    fn drop(&mut self) {
        self.cut();
    }
}

impl fmt::Debug for ProxyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyHandle").field("addr", &self.shared.addr).finish_non_exhaustive()
    }
}

/// Records that were peeked at: at the end of this they are taken, or left.
struct Reading<'a>(&'a ProxyHandle);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.consumer().leave();
    }
}

fn listen(bind: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let open = || {
        let listener = TcpListener::bind(bind)?;
        listener.set_nonblocking(true)?;
        // Events of a stream must not wait for more bytes. Connections have it from here.
        set_tcp_nodelay(&listener, true)?;
        send_at_once(&listener, bind.ip());
        let addr = listener.local_addr()?;
        Ok((listener, addr))
    };
    open().map_err(|source| StartError::Bind { addr: bind, source })
}

/// The log of records, with all that takes them out of it.
struct Recording {
    sender: Sender,
    log: Log,
    records: Consumer,
    export: Option<Export>,
    metrics: Metrics,
}

impl Recording {
    fn begin(config: &ProxyConfig, settings: &Settings) -> Result<Self, StartError> {
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        if let Some(options) = &config.audit_file {
            let sink = FileSink::open(options.clone())
                .map_err(|source| StartError::AuditFile { path: options.path.clone(), source })?;
            sinks.push(Box::new(sink));
        }
        let metrics = Metrics::new();
        if config.metrics.is_some() {
            sinks.push(Box::new(metrics.clone()));
        }
        let session = session()?;
        let collector = settings.otlp.as_ref();
        let queue = collector.map(|it| it.open_queue(session)).transpose()?.flatten();
        let queue = queue.map(|(sink, source)| {
            sinks.push(Box::new(sink));
            source
        });
        let bounds = Bounds {
            records: settings.limits.audit_records,
            disk: settings.limits.audit_disk,
            overflow: settings.limits.audit_overflow,
        };
        let (sender, log) = Log::open(session, bounds, sinks)?;
        if config.metrics.is_some() {
            let metrics = metrics.clone();
            log.count_unkept_by(move |record| metrics.count(record));
        }
        let records = log.subscribe(Reader::giving_way(prepare::DRAIN));
        let begin = |collector: &Arc<Collector>| {
            let of_log =
                || Source::log(log.subscribe(collector.reader()), &collector.resource(session));
            Export::begin(collector, queue.map_or_else(of_log, Ok)?, settings.limits.credential)
        };
        let export = collector.map(begin).transpose()?;
        Ok(Self { sender, log, records, export, metrics })
    }
}

/// A prefix for the ids of one proxy's records.
fn session() -> Result<Session, std::io::Error> {
    getrandom::u64().map(Session).map_err(std::io::Error::other)
}

/// Waits for the workers to finish what runs, for as long as they may, then cuts the rest.
async fn drain(
    shared: &Shared,
    mut until: watch::Receiver<Option<Instant>>,
    ended: &CancellationToken,
) {
    loop {
        let deadline = *until.borrow_and_update();
        let over = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = ended.cancelled() => return,
            () = over => break,
            // A further shutdown that has less time. Fails only when the handle is gone, which
            // waits for this.
            changed = until.changed() => if changed.is_err() { break },
        }
    }
    shared.audit.close();
    shared.cut.cancel();
}
