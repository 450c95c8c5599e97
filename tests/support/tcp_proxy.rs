//! A TCP proxy whose link can be cut, refused, black-holed or delayed while it runs.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    runtime::Handle,
    sync::watch,
};

/// How the link behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    /// Raised by each cut: connections made before it end.
    pub(crate) cuts: u64,
    /// Nobody listens: new connections are refused, those that are open stay.
    pub(crate) refuses: bool,
    /// What is sent vanishes, in both directions. Connections that have lost something end when this does, as their peers'
    /// streams would not be whole.
    pub(crate) black_hole: bool,
    /// Each piece that passes waits so long.
    pub(crate) delay: Duration,
}

/// A proxy on a loopback port, in front of one upstream. It ends when it is dropped.
pub(crate) struct TcpProxy {
    link: watch::Sender<Link>,
    passed: Arc<AtomicU64>,
}

impl TcpProxy {
    /// Listens on `port` of 127.0.0.1 and leads to `upstream`, driven by `runtime`.
    ///
    /// # Errors
    /// If the port is taken.
    pub(crate) fn start(
        runtime: &Handle,
        port: u16,
        upstream: SocketAddr,
    ) -> std::io::Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let (link, changes) = watch::channel(Link::default());
        let passed = Arc::<AtomicU64>::default();
        runtime.spawn(listen(
            listener,
            address,
            upstream,
            changes,
            Arc::clone(&passed),
        ));
        Ok(Self { link, passed })
    }

    /// Changes how the link behaves.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Link)) {
        self.link.send_modify(change);
    }

    /// Bytes that have passed, both ways.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

async fn listen(
    listener: std::net::TcpListener,
    address: SocketAddr,
    upstream: SocketAddr,
    mut link: watch::Receiver<Link>,
    passed: Arc<AtomicU64>,
) {
    let mut listener = TcpListener::from_std(listener).ok();
    loop {
        let now = *link.borrow_and_update();
        if now.refuses {
            listener = None;
        } else if listener.is_none() {
            match TcpListener::bind(address).await {
                Ok(bound) => listener = Some(bound),
                // Its own old connections may be in the way for a moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
            continue;
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = link.changed() => if changed.is_err() { return },
            accepted = accepted => if let Ok((client, _)) = accepted {
                tokio::spawn(connect(client, upstream, link.clone(), Arc::clone(&passed)));
            },
        }
    }
}

async fn connect(
    client: TcpStream,
    upstream: SocketAddr,
    mut link: watch::Receiver<Link>,
    passed: Arc<AtomicU64>,
) {
    let cuts = link.borrow_and_update().cuts;
    // Behind a black hole nobody answers, whether or not the upstream is there.
    if link.wait_for(|link| !link.black_hole).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (there, back) = (link.clone(), link);
    let (counted, also) = (Arc::clone(&passed), passed);
    // The first to end takes the other with it, as a lost connection does.
    tokio::select! {
        () = pump(from_client, to_server, there, cuts, counted) => {}
        () = pump(from_server, to_client, back, cuts, also) => {}
    }
}

/// Passes on what comes, until an end, a cut, or the end of a black hole that has swallowed something.
async fn pump(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut link: watch::Receiver<Link>,
    cuts: u64,
    passed: Arc<AtomicU64>,
) {
    let mut piece = vec![0; 64 << 10];
    let mut swallowed = false;
    loop {
        let now = *link.borrow_and_update();
        if now.cuts != cuts || (swallowed && !now.black_hole) {
            return;
        }
        let read = tokio::select! {
            changed = link.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            read = from.read(&mut piece) => read,
        };
        // In a black hole an end is not heard of either.
        let Ok(read) = read else { return };
        if link.borrow().black_hole {
            swallowed = true;
            if read == 0 {
                let _ = link.wait_for(|link| !link.black_hole).await;
                return;
            }
            continue;
        }
        if read == 0 {
            return;
        }
        if !now.delay.is_zero() {
            tokio::time::sleep(now.delay).await;
        }
        let written = tokio::select! {
            _ = link.wait_for(|link| link.cuts != cuts) => return,
            written = to.write_all(&piece[..read]) => written,
        };
        if written.is_err() {
            return;
        }
        passed.fetch_add(read as u64, Ordering::Relaxed);
    }
}
