//! mqd: the daemon. The only file that names concrete stores, sessions and listeners together.

use log::{LevelFilter, info, warn};
use mq::kv::Kv;
use mq::options::{DEFAULT_MAX_CLIENTS, Invocation, Options, StoreKind};
use mq::queue::{
    Backing, DiskBacking, Durability, Limits as QueueLimits, MemoryBacking, NothingToSync, Policy,
    Queues, Sums,
};
use mq::server::signals::StopSignals;
use mq::server::{Server, ServerLimits, Service, limits};
use mq::session::memcached::MemcachedSession;
use mq::session::redis::RedisSession;
use mq::session::{ClientLimits, Settings, Shared, Store, process};
use mq::storage::DataDirectory;
use mq::{logging, options};
use std::io::Write;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Open files beside the clients' sockets: listeners, standard streams, and room for logs.
const RESERVED_FILES: u64 = 64;

/// How often expired values are removed, and the pause after a panic of housekeeping.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

const MISTAKE: u8 = 2;

fn main() -> ExitCode {
    let command = options::parse(std::env::args_os().skip(1));
    let environment = std::env::var("MQ_LOG").ok();
    let run = command.and_then(|command| match command {
        Invocation::Help(text) => Ok(Err(text)),
        Invocation::Version => Ok(Err(format!("mqd {}\n", env!("CARGO_PKG_VERSION")))),
        Invocation::Run(options) => {
            let level = options::log_level(options.log, environment.as_deref())?;
            Ok(Ok((options, level)))
        }
    });
    match run {
        Ok(Ok((options, level))) => start(&options, level),
        Ok(Err(text)) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(mistake) => {
            complain(&format!("{mistake} (mqd --help shows the options)"));
            ExitCode::from(MISTAKE)
        }
    }
}

fn start(options: &Options, level: LevelFilter) -> ExitCode {
    limits::share_one_heap();
    if let Err(error) = logging::start_thread(level) {
        complain(&format!("cannot start: {error}"));
        return ExitCode::FAILURE;
    }
    let served = serve(options);
    if let Err(reason) = &served {
        logging::plain(&format!("mqd: {reason}"));
    }
    logging::finish();
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Serves until a signal. An error is one line: what could not be had at the start.
fn serve(options: &Options) -> Result<(), String> {
    let start = Instant::now();
    let signals = StopSignals::new().map_err(|error| format!("no signals: {error}"))?;
    let (files, asked) = (limits::raise_open_files(), options.max_clients);
    let max_clients = limits::fit_clients(files, asked, DEFAULT_MAX_CLIENTS, RESERVED_FILES)?;
    let directory = std::path::absolute(&options.directory)
        .map_err(|error| format!("no working directory: {error}"))?;
    let redis = bind(options.redis.as_deref())?;
    let memcached = bind(options.memcached.as_deref())?;
    let (store, durability) = open_store(options)?;
    keep_house(&store)?;
    let settings = Settings {
        store: options.store_name(),
        fsync: options.fsync_name(),
        directory: directory.display().to_string(),
        redis_port: port(redis.as_ref()),
        memcached_port: port(memcached.as_ref()),
        workers: options.workers,
        room_for_clients: limits::room_for_clients(files, RESERVED_FILES),
        process_memory: Some(process::memory),
    };
    let client_limits = ClientLimits {
        max_clients: max_clients.into(),
        lease_s: options.lease.as_secs().into(),
        idle_timeout_s: options.idle_timeout.map_or(0, |timeout| timeout.as_secs()).into(),
        max_message: options.max_message.into(),
        max_output: options.max_output.into(),
    };
    let shared = Arc::new(Shared::new(store, settings, Arc::new(client_limits)));
    let statistics = Arc::clone(&shared.statistics);
    let mut services = Vec::new();
    services.extend(redis.map(|listener| redis_service(listener, &shared)));
    services.extend(memcached.map(|listener| memcached_service(listener, &shared)));
    let addresses = announcement(&services)?;
    let memory = limits::memory();
    let max_memory = limits::memory_of_clients(memory);
    let limits =
        ServerLimits { workers: options.workers, max_memory, clients: Arc::clone(&shared.limits) };
    let server = Server::start(services, limits, durability, statistics)
        .map_err(|error| format!("cannot start: {error}"))?;
    say_start(&shared, options, start);
    say_memory(&shared, memory, max_memory);
    // A supervisor that sees the daemon ready finds in the log what it has said of its queues.
    log::logger().flush();
    say(&addresses);
    let signal = signals.wait();
    let stop = Instant::now();
    info!("stopping: {signal}");
    server.stop();
    close_store(&shared.store)?;
    let synced = if options.store == StoreKind::Disk { ", and everything is synced" } else { "" };
    info!("stopped after {} ms{synced}", stop.elapsed().as_millis());
    Ok(())
}

/// What is served, and what was found.
fn say_start(shared: &Shared, options: &Options, start: Instant) {
    let Settings { store, fsync, directory, .. } = &shared.settings;
    let workers = options.workers;
    let what = match &shared.store {
        Store::Queues(queues) if options.store == StoreKind::Disk => {
            let Sums { queues, messages, .. } = queues.sums();
            format!(
                "in {directory}, fsync {fsync}, workers {workers}, {queues} queues with {messages} \
                 messages"
            )
        }
        _ => format!("of at most {} bytes, workers {workers}", options.max_memory),
    };
    let took_ms = start.elapsed().as_millis();
    info!("mqd {}: {store} store {what}, ready after {took_ms} ms", env!("CARGO_PKG_VERSION"));
}

/// What clients may take, and whether there is as much memory as all may take.
fn say_memory(shared: &Shared, memory: u64, clients: usize) {
    info!("all clients together may take {clients} bytes, of {memory} bytes of memory");
    let store = shared.store.max_memory();
    if store.saturating_add(clients as u64) > memory {
        warn!("there is less memory than clients and the store (--max-memory {store}) may take");
    }
}

fn open_store(options: &Options) -> Result<(Store, Arc<dyn Durability>), String> {
    let backing: Box<dyn Backing> = match options.store {
        StoreKind::Kv => {
            let kv = Arc::new(Kv::new(options.max_memory));
            return Ok((Store::Kv(kv), Arc::new(NothingToSync)));
        }
        StoreKind::Memory => Box::new(MemoryBacking::new(options.max_memory)),
        StoreKind::Disk => {
            let path = &options.directory;
            let directory = DataDirectory::open(path, options.segment_size, options.strict)
                .map_err(|error| error.to_string())?;
            Box::new(DiskBacking::new(directory))
        }
    };
    let limits = QueueLimits {
        max_queues: options.max_queues,
        max_queue_len: options.max_queue_len.unwrap_or(u64::MAX),
    };
    // There is nothing to sync in memory, whatever the policy.
    let policy = match options.store {
        StoreKind::Disk => options.fsync,
        StoreKind::Memory | StoreKind::Kv => Policy::Never,
    };
    let queues = Queues::open(backing, limits, policy)
        .map_err(|error| format!("cannot open the store: {error}"))?;
    let queues = Arc::new(queues);
    Ok((Store::Queues(Arc::clone(&queues)), queues))
}

fn close_store(store: &Store) -> Result<(), String> {
    match store {
        Store::Queues(queues) if !queues.close() => {
            Err("the last sync failed: what changed since the one before may be lost".into())
        }
        _ => Ok(()),
    }
}

/// A thread that gives back what is no longer needed, until the process ends.
fn keep_house(store: &Store) -> Result<(), String> {
    let mut round: Box<dyn FnMut() + Send> = match store {
        Store::Kv(kv) => {
            let kv = Arc::clone(kv);
            Box::new(move || {
                kv.sweep();
                thread::sleep(HOUSEKEEPING);
            })
        }
        Store::Queues(queues) => {
            let (queues, mut last_rest) = (Arc::clone(queues), Instant::now());
            Box::new(move || queues.keep_house(&mut last_rest))
        }
    };
    let work = move || {
        loop {
            // A panic is logged by its hook, and the next round is tried.
            if catch_unwind(AssertUnwindSafe(&mut round)).is_err() {
                thread::sleep(HOUSEKEEPING);
            }
        }
    };
    let spawned = thread::Builder::new().name("housekeeping".into()).spawn(work);
    spawned.map(drop).map_err(|error| format!("cannot start: {error}"))
}

fn bind(address: Option<&str>) -> Result<Option<TcpListener>, String> {
    let Some(address) = address else {
        return Ok(None);
    };
    TcpListener::bind(address)
        .map(Some)
        .map_err(|error| format!("cannot listen on {address}: {error}"))
}

fn port(listener: Option<&TcpListener>) -> u16 {
    listener.and_then(|listener| listener.local_addr().ok()).map_or(0, |address| address.port())
}

fn redis_service(listener: TcpListener, shared: &Arc<Shared>) -> Service {
    let shared = Arc::clone(shared);
    Service {
        protocol: "redis",
        listener,
        refusal: b"-ERR max number of clients reached\r\n",
        overload: b"-OOM out of memory for what this client has sent or asked for\r\n",
        sessions: Box::new(move |client| Box::new(RedisSession::new(Arc::clone(&shared), client))),
    }
}

fn memcached_service(listener: TcpListener, shared: &Arc<Shared>) -> Service {
    let shared = Arc::clone(shared);
    Service {
        protocol: "memcached",
        listener,
        refusal: b"SERVER_ERROR too many open connections\r\n",
        overload: b"SERVER_ERROR out of memory for what this client has sent or asked for\r\n",
        sessions: Box::new(move |client| {
            Box::new(MemcachedSession::new(Arc::clone(&shared), client))
        }),
    }
}

/// The start-up lines: where each service can be reached.
fn announcement(services: &[Service]) -> Result<String, String> {
    let mut lines = String::new();
    for service in services {
        let address = service.listener.local_addr().map_err(|error| error.to_string())?;
        lines.push_str(&format!("{} listening on {address}\n", service.protocol));
    }
    Ok(lines)
}

/// Standard output may be closed; the daemon serves all the same.
fn say(text: &str) {
    let mut output = std::io::stdout();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

fn complain(reason: &str) {
    let _ = writeln!(std::io::stderr(), "mqd: {reason}");
}
