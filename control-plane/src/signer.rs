//! Signs the capabilities with which the runner enters a gateway. The key is drawn on the first start
//! and kept in the data directory; edges get its public half by the feed. A key that was replaced is
//! taken from them once nothing that it signed can be valid any more.

use std::path::Path;

use anyhow::Context as _;
use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use protocol::{claims, claims::Capability, feed::FeedTokenKey, key::PublicKey};
use zeroize::Zeroizing;

use crate::{
    files,
    peers::Peers,
    store::{
        self, Store,
        audit::{Actor, Entry},
    },
};

/// So long after a key was published, no capability of an older one is valid any more.
const OVERLAP_MS: u64 = claims::MAX_LIFETIME_S * 1000;

pub(crate) struct Signer {
    key: EncodingKey,
    public: FeedTokenKey,
}

impl Signer {
    /// Reads the key from the data directory, or draws it on the first start and when it was lost.
    pub(crate) fn open(dir: &Path, is_first_start: bool) -> anyhow::Result<Self> {
        let file = dir.join("token.key");
        let der = match files::read(&file).context("cannot read token.key")? {
            Some(der) => Zeroizing::new(der),
            None => {
                let pair = Ed25519KeyPair::generate().context("cannot draw a key")?;
                let der: Pkcs8V1Der<'_> = pair.as_der().context("cannot write a key")?;
                let der = Zeroizing::new(der.as_ref().to_vec());
                files::write(&file, &der).context("cannot write token.key")?;
                if !is_first_start {
                    tracing::warn!(
                        "token.key was missing: a new key signs capabilities from now on"
                    );
                }
                der
            }
        };
        let pair = Ed25519KeyPair::from_pkcs8(&der)
            .context("token.key in the data directory is damaged")?;
        let public_key = PublicKey::try_from(pair.public_key().as_ref())?;
        let kid = String::from(public_key).chars().take(16).collect();
        let public = FeedTokenKey { kid, public_key };
        Ok(Self { key: EncodingKey::from_ed_der(&der), public })
    }

    /// Makes the key known to the edges, unless it is the newest that they know.
    ///
    /// # Errors
    /// If other control planes are at work, which sign with that one.
    pub(crate) async fn publish(
        &self,
        store: &Store,
        peers: &Peers,
        now_ms: u64,
    ) -> anyhow::Result<()> {
        let known = store::token_key::list(&mut store.read().await?).await?;
        if known.first() == Some(&self.public) {
            return Ok(());
        }
        anyhow::ensure!(
            known.is_empty() || !peers.has_company(store).await?,
            "token.key is not the one that the other control planes sign with: copy theirs"
        );
        let mut change = store.change().await?;
        store::token_key::put(&mut change, &self.public, now_ms).await?;
        let entry = Entry {
            tenant: store::tenant::operator(&mut change).await?,
            actor: Actor::System,
            action: "token_key.publish",
            subject: self.public.kid.clone(),
            detail: serde_json::Value::Null,
            at_ms: now_ms,
        };
        change.commit(entry).await?;
        Ok(())
    }

    /// Takes the keys that this one has replaced from the edges, once that cuts nothing off.
    pub(crate) async fn retire_others(&self, store: &Store, now_ms: u64) -> store::Result<()> {
        let mut change = store.change().await?;
        let published_ms = now_ms.saturating_sub(OVERLAP_MS);
        let kids =
            store::token_key::delete_others(&mut change, &self.public.kid, published_ms).await?;
        if kids.is_empty() {
            return Ok(());
        }
        let entry = Entry {
            tenant: store::tenant::operator(&mut change).await?,
            actor: Actor::System,
            action: "token_key.retire",
            subject: kids.join(" "),
            detail: serde_json::json!({ "replaced_by": &self.public.kid }),
            at_ms: now_ms,
        };
        change.commit(entry).await?;
        tracing::info!(?kids, "replaced signing keys are trusted no more");
        Ok(())
    }

    /// A token for one request through a gateway.
    pub(crate) fn sign(
        &self,
        capability: &Capability,
    ) -> Result<Zeroizing<String>, jsonwebtoken::errors::Error> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(claims::TYPE.to_owned());
        header.kid = Some(self.public.kid.clone());
        jsonwebtoken::encode(&header, capability, &self.key).map(Zeroizing::new)
    }
}
