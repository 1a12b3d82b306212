//! Blobs on their way here. What has come stays, so that a transfer that broke
//! off goes on where it was.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use lampyr_store::{StoreError, at};
use lampyr_types::Task;
use reqwest::Client;
use reqwest::header::RANGE;

use crate::registry::{Registry, cause};
use crate::{Blobs, Digest, Digester, OciError};

/// How often a transfer may break off without a byte having come.
const FRUITLESS: u32 = 4;

/// A blob that is being fetched.
struct Partial {
    file: File,
    digester: Digester,
    len: u64,
}

/// Fetches a blob of a known length, unless it is there.
pub(crate) async fn fetch(
    registry: &Registry,
    blobs: &Blobs,
    digest: Digest,
    size: u64,
    task: &dyn Task,
) -> Result<(), OciError> {
    if blobs.has(digest)? {
        return Ok(());
    }
    let _alone = blobs.fetching(digest).await?;
    if blobs.has(digest)? {
        return Ok(());
    }
    let path = blobs.partial(digest)?;
    arrive(registry, &path, digest, size, task).await?.sync_all().map_err(at(&path))?;
    let target = blobs.path(digest)?;
    Ok(std::fs::rename(&path, &target).map_err(at(&target))?)
}

/// Fetches a blob into `path`, going on with what is there already; returns it,
/// verified. The caller alone may fetch it.
pub(crate) async fn arrive(
    registry: &Registry,
    path: &Path,
    digest: Digest,
    size: u64,
    task: &dyn Task,
) -> Result<File, OciError> {
    let again = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || Partial::open(&again, size)).await;
    let mut partial = opened.map_err(|e| broken(registry, digest, e.to_string()))??;
    receive(registry, &mut partial, path, digest, size, task).await?;
    let found = partial.digester.clone().finish();
    if found != digest || partial.len != size {
        std::fs::remove_file(path).map_err(at(path))?;
        let what = format!("a blob from {}", registry.name);
        return Err(OciError::WrongDigest { what, wanted: digest, found });
    }
    partial.file.rewind().map_err(at(path))?;
    Ok(partial.file)
}

impl Partial {
    /// Opens what there is of a blob and digests it.
    fn open(path: &Path, size: u64) -> Result<Self, StoreError> {
        let opened =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
        let mut partial =
            Self { file: opened.map_err(at(path))?, digester: Digester::default(), len: 0 };
        let mut buffer = vec![0; 1 << 18];
        loop {
            let len = partial.file.read(&mut buffer).map_err(at(path))?;
            if len == 0 {
                break;
            }
            partial.digester.update(&buffer[..len]);
            partial.len += len as u64;
        }
        if partial.len > size {
            partial.restart().map_err(at(path))?;
        }
        Ok(partial)
    }

    fn restart(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        (self.digester, self.len) = (Digester::default(), 0);
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.digester.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }
}

/// Receives what is missing, in as many answers as that takes.
async fn receive(
    registry: &Registry,
    partial: &mut Partial,
    path: &Path,
    digest: Digest,
    size: u64,
    task: &dyn Task,
) -> Result<(), OciError> {
    let mut fruitless = 0;
    while partial.len < size {
        let before = partial.len;
        let result = receive_once(registry, partial, path, digest, size, task).await?;
        fruitless = if partial.len > before { 0 } else { fruitless + 1 };
        match result {
            Some(why) if fruitless >= FRUITLESS => return Err(broken(registry, digest, why)),
            _ => {}
        }
    }
    Ok(())
}

/// Receives one answer. Returns why it broke off, if it did.
async fn receive_once(
    registry: &Registry,
    partial: &mut Partial,
    path: &Path,
    digest: Digest,
    size: u64,
    task: &dyn Task,
) -> Result<Option<String>, OciError> {
    let url = registry.url(&format!("blobs/{digest}"));
    let from = partial.len;
    let ask = |http: &Client| {
        let request = http.get(&url);
        if from == 0 { request } else { request.header(RANGE, format!("bytes={from}-")) }
    };
    let answer = registry.send("give a blob", ask).await?;
    match answer.status().as_u16() {
        404 => {
            return Err(OciError::NotFound { reference: format!("{digest} at {}", registry.name) });
        }
        206 if from > 0 => {}
        _ => partial.restart().map_err(at(path))?,
    }
    let mut answer = match answer.status().as_u16() {
        // What there is is not the beginning of it.
        416 => return Ok(Some("there is no such part".to_owned())),
        _ => registry.check("give a blob", answer).await?,
    };
    loop {
        match answer.chunk().await {
            Ok(Some(bytes)) => {
                let left = (size - partial.len).min(bytes.len() as u64) as usize;
                partial.take(&bytes[..left]).map_err(at(path))?;
                task.advance(partial.len, size);
                if left < bytes.len() {
                    return Err(broken(
                        registry,
                        digest,
                        "there is more than there should be".into(),
                    ));
                }
            }
            Ok(None) if partial.len < size => return Ok(Some("it ended too early".to_owned())),
            Ok(None) => return Ok(None),
            Err(e) => return Ok(Some(cause(&e))),
        }
    }
}

fn broken(registry: &Registry, digest: Digest, why: String) -> OciError {
    OciError::Broken { registry: registry.name.clone(), digest, why }
}
