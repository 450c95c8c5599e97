//! A disk in memory that forgets what was not made durable, and fails when it is told to: for tests and the simulation.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{Error, ErrorKind, Result},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Disk;

/// What fails at the next call that can fail so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// Nothing is written.
    Write(ErrorKind),
    /// Half is written.
    ShortWrite,
    /// The sync fails, and what was not durable is gone, as after a failed `fsync` on Linux.
    Sync,
    /// A file can't be read, for this reason as the system numbers it (`EIO` is 5, `EMFILE` 24).
    Read(i32),
    /// A file can't be cut.
    Truncate,
}

#[derive(Clone, Default)]
struct Stored {
    bytes: Vec<u8>,
    /// So much of it survives a crash.
    durable: usize,
    /// Whether its name survives a crash.
    named: bool,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Stored>,
    /// Removed or replaced, and not made durable: a crash may bring it back.
    undone: BTreeMap<String, Stored>,
    faults: VecDeque<DiskFault>,
    lies: bool,
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

impl MemoryDisk {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the machine crash: of what was not made durable, only a part is still there, as `random` wants.
    pub fn crash(&self, random: &mut dyn FnMut() -> u64) {
        let state = &mut *self.state();
        for (name, old) in std::mem::take(&mut state.undone) {
            if random().is_multiple_of(2) {
                state.files.insert(name, old);
            }
        }
        state
            .files
            .retain(|_, file| file.named || random().is_multiple_of(2));
        for file in state.files.values_mut() {
            let tail = file.bytes.len() - file.durable;
            let kept = file.durable + (random() % (tail as u64 + 1)) as usize;
            file.bytes.truncate(kept);
            if kept > file.durable && random().is_multiple_of(2) {
                let place = file.durable + (random() % (kept - file.durable) as u64) as usize;
                file.bytes[place] ^= 0x55;
            }
            (file.durable, file.named) = (kept, true);
        }
    }

    /// Something will fail. Faults come one after the other, each at a call that it fits.
    pub fn fail_next(&self, fault: DiskFault) {
        self.state().faults.push_back(fault);
    }

    /// From now on a sync says that all is well and does nothing.
    pub fn lie_about_sync(&self, lies: bool) {
        self.state().lies = lies;
    }

    /// Flips a byte of a file whose name ends so; whether there was one.
    pub fn flip(&self, ending: &str, random: &mut dyn FnMut() -> u64) -> bool {
        let state = &mut *self.state();
        let mut files = state
            .files
            .iter_mut()
            .filter(|(name, file)| name.ends_with(ending) && !file.bytes.is_empty());
        match files.next_back() {
            Some((_, file)) => {
                let place = (random() % file.bytes.len() as u64) as usize;
                file.bytes[place] ^= 0x55;
                true
            }
            None => false,
        }
    }
}

fn absent() -> Error {
    Error::from(ErrorKind::NotFound)
}

impl State {
    /// The next fault, if it fits.
    fn fault(&mut self, fits: impl FnOnce(DiskFault) -> bool) -> Option<DiskFault> {
        self.faults.pop_front_if(|fault| fits(*fault))
    }

    /// That of a call that writes all or nothing.
    fn whole_fault(&mut self) -> Result<()> {
        match self.fault(|fault| matches!(fault, DiskFault::Write(_))) {
            Some(DiskFault::Write(kind)) => Err(kind.into()),
            _ => Ok(()),
        }
    }

    fn take(&mut self, name: &str) -> Result<Stored> {
        let file = self.files.remove(name).ok_or_else(absent)?;
        if file.named {
            self.undone
                .entry(name.to_owned())
                .or_insert_with(|| file.clone());
        }
        Ok(file)
    }
}

impl Disk for MemoryDisk {
    fn list(&self) -> Result<Vec<(String, u64)>> {
        let size = |(name, file): (&String, &Stored)| (name.clone(), file.bytes.len() as u64);
        Ok(self.state().files.iter().map(size).collect())
    }

    fn create(&mut self, name: &str) -> Result<()> {
        let state = &mut *self.state();
        state.whole_fault()?;
        state.files.insert(name.to_owned(), Stored::default());
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let state = &mut *self.state();
        let fault =
            state.fault(|fault| matches!(fault, DiskFault::Write(_) | DiskFault::ShortWrite));
        let file = state.files.get_mut(name).ok_or_else(absent)?;
        match fault {
            Some(DiskFault::Write(kind)) => Err(kind.into()),
            Some(_) => {
                file.bytes.extend(&bytes[..bytes.len() / 2]);
                Err(ErrorKind::StorageFull.into())
            }
            None => {
                file.bytes.extend(bytes);
                Ok(())
            }
        }
    }

    fn sync(&mut self, name: &str) -> Result<()> {
        let state = &mut *self.state();
        let failed = state.fault(|fault| fault == DiskFault::Sync).is_some();
        let lies = state.lies;
        let file = state.files.get_mut(name).ok_or_else(absent)?;
        if failed {
            file.bytes.truncate(file.durable);
            return Err(Error::other("injected: the sync failed"));
        }
        if !lies {
            file.durable = file.bytes.len();
        }
        Ok(())
    }

    fn sync_folder(&mut self) -> Result<()> {
        let state = &mut *self.state();
        if !state.lies {
            state.undone.clear();
            state.files.values_mut().for_each(|file| file.named = true);
        }
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let mut state = self.state();
        if let Some(DiskFault::Read(code)) =
            state.fault(|fault| matches!(fault, DiskFault::Read(_)))
        {
            return Err(Error::from_raw_os_error(code));
        }
        state
            .files
            .get(name)
            .map(|file| file.bytes.clone())
            .ok_or_else(absent)
    }

    fn truncate(&mut self, name: &str, length: u64) -> Result<()> {
        let state = &mut *self.state();
        if state.fault(|fault| fault == DiskFault::Truncate).is_some() {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        let file = state.files.get_mut(name).ok_or_else(absent)?;
        file.bytes.truncate(length as usize);
        file.durable = file.durable.min(file.bytes.len());
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        self.state().take(name).map(drop)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let state = &mut *self.state();
        let mut file = state.take(from)?;
        file.named = false;
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn replace(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let state = &mut *self.state();
        state.whole_fault()?;
        // An old version may come back, a mixture of both may not.
        if state.files.contains_key(name) {
            state.take(name)?;
        }
        let file = Stored {
            bytes: bytes.to_vec(),
            durable: bytes.len(),
            named: false,
        };
        state.files.insert(name.to_owned(), file);
        Ok(())
    }
}
