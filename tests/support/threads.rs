//! Scenarios of `apply` in a process with other threads. Each tells what the threads can do after.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nono_sandbox::{Access, CapabilitySet, Error, apply};

use crate::syscall;

/// Runs a scenario with a file that nothing grants.
pub(crate) fn run(scenario: &str, secret: &str) -> io::Result<()> {
    match scenario {
        "waiting" => waiting(secret, Crowd::apply_here),
        "from-a-thread" => waiting(secret, |crowd| {
            thread::scope(|scope| scope.spawn(|| crowd.apply_here()).join().unwrap())
        }),
        "at-once" => waiting(secret, |crowd| {
            thread::scope(|scope| {
                let both = [scope.spawn(|| crowd.apply_here()), scope.spawn(|| crowd.apply_here())];
                both.map(|one| one.join().unwrap()).join("; ")
            })
        }),
        "twice" => waiting(secret, |crowd| [crowd.apply_here(), crowd.apply_here()].join("; ")),
        "many" => many(secret),
        "churn" => churn(secret),
        "deaf" => deaf(secret),
        "ring" => ring(secret),
        "leaderless" => leaderless(secret),
        "capabilities" => capabilities(),
        "layers" => layers(secret),
        "verify" => verify(),
        _ => return Err(io::Error::other("no such scenario")),
    }
    Ok(())
}

/// Threads that wait, each in its way, and then try the file.
struct Crowd {
    secret: String,
    threads: Vec<JoinHandle<bool>>,
    stop: Arc<AtomicBool>,
    lock: Arc<(Mutex<bool>, Condvar)>,
    pipe: Option<io::PipeWriter>,
    channel: Option<mpsc::Sender<()>>,
}

impl Crowd {
    fn new(secret: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let lock = Arc::new((Mutex::new(false), Condvar::new()));
        let (mut reader, writer) = io::pipe().unwrap();
        let (sender, receiver) = mpsc::channel::<()>();
        let ready = Arc::new(Barrier::new(6));
        let start = |wait: Box<dyn FnOnce() + Send>| {
            let (secret, ready) = (secret.to_owned(), Arc::clone(&ready));
            thread::spawn(move || {
                ready.wait();
                wait();
                fs::read(secret).is_ok()
            })
        };
        let (spin, nap, held) = (Arc::clone(&stop), Arc::clone(&stop), Arc::clone(&lock));
        let threads = vec![
            start(Box::new(move || while !spin.load(Ordering::Acquire) {})),
            start(Box::new(move || {
                while !nap.load(Ordering::Acquire) {
                    thread::park_timeout(Duration::from_millis(20));
                }
            })),
            start(Box::new(move || {
                drop(held.1.wait_while(held.0.lock().unwrap(), |open| !*open).unwrap());
            })),
            start(Box::new(move || {
                // An interrupted read would be an error of its own.
                assert_eq!(reader.read(&mut [0]).unwrap(), 0);
            })),
            start(Box::new(move || assert!(receiver.recv().is_err()))),
        ];
        ready.wait();
        let (pipe, channel) = (Some(writer), Some(sender));
        Self { secret: secret.to_owned(), threads, stop, lock, pipe, channel }
    }

    /// Applies on the calling thread and says what came of it.
    fn apply_here(&self) -> String {
        let said = match apply(&CapabilitySet::new()) {
            Ok(report) => format!("{} domains", report.domains()),
            Err(error) => error.to_string(),
        };
        format!("{said}, here {}", fs::read(&self.secret).is_ok())
    }

    /// Wakes the threads and counts those that can read the file.
    fn count(mut self) -> usize {
        self.stop.store(true, Ordering::Release);
        *self.lock.0.lock().unwrap() = true;
        self.lock.1.notify_all();
        drop(self.pipe.take());
        drop(self.channel.take());
        self.threads.drain(..).map(|one| usize::from(one.join().unwrap())).sum()
    }
}

fn waiting(secret: &str, act: impl FnOnce(&Crowd) -> String) {
    let crowd = Crowd::new(secret);
    let said = act(&crowd);
    let here = fs::read(secret).is_ok();
    println!("{said}; main {here}, others {}", crowd.count());
}

fn many(secret: &str) {
    const THREADS: usize = 200;
    let ready = Arc::new(Barrier::new(THREADS + 1));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (secret, ready) = (secret.to_owned(), Arc::clone(&ready));
            thread::spawn(move || {
                ready.wait();
                ready.wait();
                fs::read(secret).is_ok()
            })
        })
        .collect();
    ready.wait();
    let report = apply(&CapabilitySet::new()).unwrap();
    ready.wait();
    let free = threads.into_iter().map(|one| one.join().unwrap()).filter(|is_free| *is_free);
    println!("{} domains, {} free", report.domains(), free.count());
}

/// Threads that make threads all the time; each that begins after the call tries the file.
fn churn(secret: &str) {
    static APPLIED: AtomicBool = AtomicBool::new(false);
    static FREE: AtomicUsize = AtomicUsize::new(0);
    static AFTER: AtomicUsize = AtomicUsize::new(0);
    let makers: Vec<_> = (0..3)
        .map(|_| {
            let secret = secret.to_owned();
            thread::spawn(move || {
                while AFTER.load(Ordering::Acquire) < 100 {
                    thread::scope(|scope| {
                        for _ in 0..4 {
                            scope.spawn(|| {
                                let is_after = APPLIED.load(Ordering::Acquire);
                                let is_free = File::open(&secret).is_ok();
                                if is_after {
                                    FREE.fetch_add(is_free.into(), Ordering::AcqRel);
                                    AFTER.fetch_add(1, Ordering::AcqRel);
                                }
                            });
                        }
                    });
                }
            })
        })
        .collect();
    apply(&CapabilitySet::new()).unwrap();
    APPLIED.store(true, Ordering::Release);
    for maker in makers {
        maker.join().unwrap();
    }
    println!("{} free", FREE.load(Ordering::Acquire));
}

/// A thread that blocks every signal by the system call, past the C library.
fn deaf(secret: &str) {
    let (go, wait) = mpsc::channel::<()>();
    let (tell, ready) = mpsc::channel::<()>();
    let path = secret.to_owned();
    let thread = thread::Builder::new().name("deaf".to_owned()).spawn(move || {
        let all = u64::MAX;
        let mask = std::ptr::from_ref(&all) as i64;
        syscall(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK.into(), mask, 0, 8]).unwrap();
        tell.send(()).unwrap();
        wait.recv().is_err() && fs::read(path).is_ok()
    });
    ready.recv().unwrap();
    let crowd = Crowd::new(secret);
    match apply(&CapabilitySet::new()) {
        Err(Error::ThreadSilent { name, is_ring, .. }) => println!("{name} {is_ring}"),
        other => println!("{other:?}"),
    }
    drop(go);
    let here = fs::read(secret).is_ok();
    println!("{here} {} {}", thread.unwrap().join().unwrap(), crowd.count());
}

/// A ring that a thread of the kernel serves.
fn ring(secret: &str) {
    // `struct io_uring_params`; `IORING_SETUP_SQPOLL` in its third word, the idle time in its fifth.
    let mut params = [0_u32; 30];
    params[2] = 2;
    params[4] = 60_000;
    let made = syscall(libc::SYS_io_uring_setup, [4, params.as_mut_ptr() as i64, 0, 0]);
    if let Err(error) = made {
        println!("left out: {error}");
        return;
    }
    match apply(&CapabilitySet::new()) {
        Err(Error::ThreadSilent { name, is_ring, .. }) => {
            println!("{} {is_ring} {}", name.starts_with("iou-sqp"), fs::read(secret).is_ok());
        }
        other => println!("{other:?}"),
    }
}

/// The first thread of the process ends before the others.
fn leaderless(secret: &str) {
    let secret = secret.to_owned();
    thread::spawn(move || {
        while !fs::read_to_string("/proc/self/stat").unwrap().contains(") Z") {
            thread::yield_now();
        }
        let crowd = Crowd::new(&secret);
        let said = crowd.apply_here();
        println!("{said}; others {}", crowd.count());
        syscall(libc::SYS_exit_group, [0; 4]).unwrap();
    });
    let _ = syscall(libc::SYS_exit, [0; 4]);
}

/// Root's capabilities, as each thread has them after.
fn capabilities() {
    let mut caps = CapabilitySet::new();
    caps.allow_path("/proc", Access::Read).unwrap();
    let ready = Arc::new(Barrier::new(2));
    let waiter = Arc::clone(&ready);
    let thread = thread::spawn(move || waiter.wait());
    apply(&caps).unwrap();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let kept: Vec<&str> = ["CapEff", "NoNewPrivs", "Seccomp:", "Seccomp_filters"]
            .iter()
            .map(|name| status.lines().find(|line| line.starts_with(name)).unwrap_or_default())
            .collect();
        println!("{}", kept.join(" ").replace('\t', ""));
    }
    ready.wait();
    thread.join().unwrap();
}

/// As many layers as the kernel takes, and one more.
fn layers(secret: &str) {
    let crowd = Crowd::new(secret);
    let mut caps = CapabilitySet::new();
    caps.allow_file(secret, Access::Read).unwrap();
    let error = (1..).find_map(|layer| Some((layer, apply(&caps).err()?))).unwrap();
    println!("{} {}; others {}", error.0, error.1, crowd.count());
}

/// Has every kind of sandbox verified, as whoever runs this.
fn verify() {
    let mut blocked = crate::system();
    blocked.block_network();
    for caps in [crate::system(), blocked] {
        let verification = caps.verify().unwrap();
        let failures: Vec<_> = verification.failures().map(ToString::to_string).collect();
        println!("{} {}", verification.checks.len() > 20, failures.join("; "));
    }
}
