//! iceoryx2: publish and subscribe over shared memory, each record a loaned slice of bytes.
//!
//! Nothing may be lost: a publisher waits for a subscriber whose buffer is full.

use std::path::Path;

use iceoryx2::config::Config;
use iceoryx2::port::BackpressureAction;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::{FileName, NodeBuilder, PortFactory as _, SemanticString, ServiceName, ipc};
use iceoryx2::service::builder::publish_subscribe::PublishSubscribeOpenError;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

use super::meet::wait_until;
use super::{AT_ONCE, foreign};
use crate::Result;
use crate::peer::{About, Link, Peer, Receiver, Sender};

/// iceoryx2 with a subscriber's buffer of so many records.
#[derive(Clone, Debug)]
pub(crate) struct Iceoryx2 {
    buffer: usize,
}

/// Those that are measured, or what was tried to find them.
pub(crate) fn all() -> Vec<Iceoryx2> {
    let buffers: &[usize] =
        if foreign::is_sweeping() { &[16, 64, 256, 1024, 4096, 16384] } else { &[64, 256] };
    buffers.iter().map(|buffer| Iceoryx2 { buffer: *buffer }).collect()
}

type Factory = PortFactory<ipc::Service, [u8], ()>;

impl Iceoryx2 {
    fn open(&self, link: &Link<'_>, creates: bool) -> Result<Option<Factory>> {
        let node = NodeBuilder::new().config(&config(link.dir)?).create::<ipc::Service>()?;
        let service = node.service_builder(&ServiceName::new(link.name)?).publish_subscribe::<[u8]>();
        let service = service
            .max_publishers(1)
            .subscriber_max_buffer_size(self.buffer)
            .subscriber_max_borrowed_samples(1)
            .history_size(0)
            .enable_safe_overflow(false);
        if creates {
            return Ok(Some(service.create()?));
        }
        match service.open() {
            Ok(factory) => Ok(Some(factory)),
            Err(PublishSubscribeOpenError::DoesNotExist | PublishSubscribeOpenError::HangsInCreation) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Everything below the link's directory, and what can only be shared memory under its name.
fn config(dir: &Path) -> Result<Config> {
    let mut config = Config::default();
    config.global.set_root_path(&iceoryx2::prelude::Path::new(dir.as_os_str().as_encoded_bytes())?);
    config.global.prefix = FileName::new(foreign::shared_memory_prefix(dir)?.as_bytes())?;
    Ok(config)
}

impl Peer for Iceoryx2 {
    type Sender = IceoryxSender;
    type Receiver = IceoryxReceiver;

    fn name(&self) -> String {
        format!("iceoryx2, buffer of {}", self.buffer)
    }

    fn about(&self) -> About {
        About { kept: false, checksummed: false, survives_kill: true }
    }

    fn sender(&self, link: &Link<'_>) -> Result<IceoryxSender> {
        let factory = self.open(link, true)?.ok_or("a service that was created is not there")?;
        let publisher = factory
            .publisher_builder()
            .initial_max_slice_len(link.size)
            .max_loaned_samples(1)
            .set_backpressure_handler(|_| BackpressureAction::Retry)
            .create()?;
        Ok(IceoryxSender { publisher, factory })
    }

    fn receiver(&self, link: &Link<'_>) -> Result<IceoryxReceiver> {
        let factory = wait_until(link.name, || self.open(link, false))?;
        let subscriber = factory.subscriber_builder().buffer_size(self.buffer).create()?;
        Ok(IceoryxReceiver { subscriber, _factory: factory })
    }
}

/// A publisher.
pub(crate) struct IceoryxSender {
    publisher: Publisher<ipc::Service, [u8], ()>,
    factory: Factory,
}

impl Sender for IceoryxSender {
    #[inline]
    fn send(&mut self, record: &[u8]) -> Result<()> {
        self.publisher.loan_slice_uninit(record.len())?.write_from_slice(record).send()?;
        Ok(())
    }

    fn is_connected(&mut self) -> Result<bool> {
        Ok(self.factory.dynamic_config().number_of_subscribers() > 0)
    }

    fn finish(self) -> Result<()> {
        Ok(())
    }
}

/// A subscriber.
pub(crate) struct IceoryxReceiver {
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    _factory: Factory,
}

impl Receiver for IceoryxReceiver {
    #[inline]
    fn poll(&mut self, each: &mut impl FnMut(&[u8])) -> Result<usize> {
        for polled in 0..AT_ONCE {
            match self.subscriber.receive()? {
                Some(record) => each(&record),
                None => return Ok(polled),
            }
        }
        Ok(AT_ONCE)
    }
}
