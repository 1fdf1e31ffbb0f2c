//! The first start: a tenant, its owner, and the key that edges verify capabilities with. Later
//! starts find them.

use std::{collections::BTreeSet, fmt};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::{
    auth::password::Passwords,
    clock::Clock,
    options::Options,
    peers::Peers,
    random,
    signer::Signer,
    store::{
        self, Store,
        audit::{Actor, Entry},
        tenant::Tenant,
        user::User,
    },
};

/// The tenant of a deployment for one customer.
const TENANT: &str = "default";

/// What the first start has made.
pub struct FirstRun {
    /// With which the owner logs in.
    pub owner_email: String,
    /// The password that was drawn; `None` if the operator had set one. Shown nowhere else.
    pub password: Option<Zeroizing<String>>,
}

impl fmt::Debug for FirstRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner_email, password: _ } = self;
        f.debug_struct("FirstRun").field("owner_email", owner_email).finish_non_exhaustive()
    }
}

/// Is the first start still to come, since there is no tenant?
pub(crate) async fn is_due(store: &Store) -> store::Result<bool> {
    Ok(store::tenant::list(&mut store.read().await?).await?.is_empty())
}

pub(crate) async fn prepare(
    store: &Store,
    passwords: &Passwords,
    signer: &Signer,
    peers: &Peers,
    options: &Options,
    clock: &Clock,
) -> anyhow::Result<Option<FirstRun>> {
    let now_ms = clock.now_ms();
    let first = if is_due(store).await? {
        Some(make_owner(store, passwords, options, now_ms).await?)
    } else {
        None
    };
    signer.publish(store, peers, now_ms).await?;
    Ok(first)
}

async fn make_owner(
    store: &Store,
    passwords: &Passwords,
    options: &Options,
    now_ms: u64,
) -> anyhow::Result<FirstRun> {
    let chosen = options.owner_password()?;
    let drawn = match chosen {
        Some(_) => None,
        None => Some(Zeroizing::new(URL_SAFE_NO_PAD.encode(random::bytes::<18>().as_slice()))),
    };
    let password = chosen.or_else(|| drawn.clone()).expect("one of the two is there");
    let tenant =
        Tenant { id: random::id(), name: TENANT.to_owned(), is_operator: true, created_ms: now_ms };
    let owner = User {
        id: random::id(),
        tenant: tenant.id,
        is_operator_tenant: true,
        email: options.owner_email.to_lowercase(),
        password_hash: passwords.hash(password).await?,
        is_owner: true,
        permissions: BTreeSet::new(),
        created_ms: now_ms,
    };
    let mut change = store.change().await?;
    store::tenant::insert(&mut change, &tenant).await?;
    store::user::insert(&mut change, &owner).await?;
    let entry = Entry {
        tenant: tenant.id,
        actor: Actor::System,
        action: "tenant.create",
        subject: tenant.name,
        detail: serde_json::json!({ "owner": &owner.email }),
        at_ms: now_ms,
    };
    change.commit(entry).await?;
    Ok(FirstRun { owner_email: owner.email, password: drawn })
}
