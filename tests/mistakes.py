"""Command lines that cannot work, and all that is said of each: on stderr, below how many problems there are."""

# ruff: noqa: E501  # what is said has lines as long as they are

from __future__ import annotations

from conftest import names

MODELS = ", ".join(names("model"))
EXPERIMENTS = ", ".join(names("experiment"))

# Found in the command line itself. One in a list has arguments with blanks in them, or empty ones.
BAD: list[tuple[str | list[str], list[str]]] = [
    ("loss.bta=4", ["loss.bta=4: no such key; did you mean loss.beta?"]),
    ("+loss.bta=4", ["+loss.bta=4: no such key; did you mean loss.beta?"]),
    ("++loss.bta=4", ["++loss.bta=4: no such key; did you mean loss.beta?"]),
    ("~loss.bta", ["~loss.bta: cannot be left out; set it to what you want"]),
    ("trainer.max_epoch=3", ["trainer.max_epoch=3: no such key; did you mean trainer.max_epochs?"]),
    ("lr=0.1", ["lr=0.1: no such key; did you mean optimizer.lr?"]),
    ("latent_dim=2", ["latent_dim=2: no such key; did you mean model.latent_dim?"]),
    ("mode=conv", ["mode=conv: no such key; did you mean model?"]),
    ("foo.bar=1", ["foo.bar=1: no such key; `--help` lists all keys"]),
    ("loss.zzz=1", ["loss.zzz=1: no such key; loss has beta, samples, analytic, free_bits"]),
    ("callback.ema.decay=0.9", ["callback.ema.decay=0.9: no such key; say callback=ema first"]),
    (
        "model=con",
        [f"model=con: no such option; did you mean conv?; model is one of {MODELS}"],
    ),
    (
        "beta=4",
        ["beta=4: no such option; did you mean loss.beta=4?; beta is one of constant, cyclical, warmup"],
    ),
    ("callback=[ema,stop]", ["callback=stop: no such option; callback is one of early_stopping, ema"]),
    ("experiment=x", [f"experiment=x: no such option; experiment is one of {EXPERIMENTS}"]),
    ("loss.beta=-1", ["loss.beta: must be a number >= 0, not -1"]),
    ("loss.beta=nan", ["loss.beta: must be a number >= 0, not nan"]),
    ("loss.beta=inf", ["loss.beta: must be a number >= 0, not inf"]),
    ("loss.beta=four", ["loss.beta: must be a number >= 0, not 'four'"]),
    ("loss.analytic=1", ["loss.analytic: must be one of auto, or true or false, not 1"]),
    ("model.latent_dim=0", ["model.latent_dim: must be a whole number >= 1, not 0"]),
    ("model.latent_dim=2.5", ["model.latent_dim: must be a whole number >= 1, not 2.5"]),
    ("model.dropout=2", ["model.dropout: must be a number >= 0 and <= 1, not 2"]),
    ("model.hidden=[]", ["model.hidden: must be a list of at least one item, each a whole number >= 1, not []"]),
    ("optimizer.betas=[0.9]", ["optimizer.betas: must be a list of 2 items, each a number >= 0 and <= 1, not [0.9]"]),
    ("data.batch_size=0", ["data.batch_size: must be a whole number >= 1, not 0"]),
    ("data.limit=0", ["data.limit: must be a whole number >= 1, or null, not 0"]),
    ("data.binarize=grey", ["data.binarize: must be one of dynamic, static, threshold, none, not 'grey'"]),
    ("accelerator.graph=maybe", ["accelerator.graph: must be true or false, not 'maybe'"]),
    ("seed=-1", ["seed: must be a whole number >= 0 and <= 4294967295, not -1"]),
    ("condition=labels", ["condition: must be one of label, or null, not 'labels'"]),
    (
        "likelihood=normal",
        [
            "likelihood: normal does not go with data.binarize=dynamic: a normal density is for grey pixels: "
            "say data.binarize=none or likelihood=bernoulli"
        ],
    ),
    (
        "data.binarize=none",
        [
            "likelihood: bernoulli does not go with data.binarize=none: a Bernoulli gives grey pixels no density: "
            "say data.binarize=dynamic or likelihood=cross_entropy"
        ],
    ),
    (
        "likelihood=cross_entropy",
        [
            "likelihood: cross_entropy does not go with data.binarize=dynamic: on binary pixels it is the Bernoulli "
            "likelihood: say likelihood=bernoulli or data.binarize=none"
        ],
    ),
    (
        "model=mlp,conv",
        ["model=mlp,conv: several values are a sweep: add -m, or quote the value to mean one"],
    ),
    ("model._target_=os.system", ["model._target_=os.system: a _target_ comes from conf/, not from the command line"]),
    (
        "+model={_target_:os.system}",
        ["+model={_target_:os.system}: a _target_ comes from conf/, not from the command line"],
    ),
    (
        "callback=ema callback.ema={_target_:subprocess.run}",
        ["callback.ema={_target_:subprocess.run}: a _target_ comes from conf/, not from the command line"],
    ),
    (
        "posterior=gumbel",
        [
            "posterior: gumbel does not go with prior=normal: its latents are one-hot vectors: say prior=categorical",
        ],
    ),
    (
        "loss=iwae posterior=gumbel prior=categorical",
        [
            "loss: iwae does not go with posterior=gumbel: it needs the density of each draw: "
            "say posterior=normal or loss=elbo"
        ],
    ),
    (
        "loss=iwae likelihood=mse",
        [
            "loss: iwae does not go with likelihood=mse: an energy has no bound on log p(x): "
            "say likelihood=bernoulli or loss=elbo"
        ],
    ),
    (
        "prior=conditional",
        [
            "prior: conditional does not go with condition=null: it is a distribution for each label: "
            "say condition=label or prior=normal"
        ],
    ),
    (
        "posterior=mixture loss=iwae loss.estimator=dreg",
        [
            "posterior: mixture does not go with loss.estimator=dreg: "
            "its weights have no doubly reparametrised gradient: say loss.estimator=stl"
        ],
    ),
    (
        "model=ladder loss=tc",
        ["loss: tc does not go with model=ladder: it looks at one latent variable: say model=mlp or loss=elbo"],
    ),
    (
        "loss=wae_mmd prior=vamp",
        [
            "loss: wae_mmd does not go with prior=vamp: this loss has no rate, so that a prior would never learn: "
            "say prior=normal"
        ],
    ),
    (
        "data=vectors",
        ["likelihood: bernoulli does not go with data=vectors: it is for values in [0, 1]: say likelihood=normal"],
    ),
    ("loss=iwae beta=warmup", ["beta.end: leads to loss.beta, which loss=iwae does not have"]),
    ("~model", ["~model: cannot be left out; set it to what you want"]),
    ("foo", ["foo: not of the form key=value (missing EQUAL at '<EOF>')"]),
    ("data.root=${nope}", ["data.root: Interpolation key 'nope' not found"]),
    (
        "experiment=burda_2016_vae model=conv",
        [
            "model.hidden: no such key: vae_lightning.model.conv.conv has activation, channels, kernel_size, "
            "latent_dim, negative_slope, norm, strides"
        ],
    ),
    (
        "loss.bta=4 model=con seed=-1 data.batch_size=0",
        [
            f"model=con: no such option; did you mean conv?; model is one of {MODELS}",
            "data.batch_size: must be a whole number >= 1, not 0",
            "seed: must be a whole number >= 0 and <= 4294967295, not -1",
            "loss.bta=4: no such key; did you mean loss.beta?",
        ],
    ),
    ("loss.beta", ["loss.beta: not of the form key=value (missing EQUAL at '<EOF>')"]),
    ("=4", ["=4: no such key; `--help` lists all keys"]),
    (
        [""],
        [
            ": not of the form key=value (mismatched input '<EOF>' expecting {EQUAL, '~', '+', '@', KEY_SPECIAL, DOT_PATH, ID})"
        ],
    ),
    ("loss..beta=4", ["loss..beta=4: not of the form key=value (token recognition error at: '.')"]),
    (
        "loss.beta==4",
        [
            "loss.beta==4: not of the form key=value (extraneous input '=' expecting {<EOF>, ':', BRACKET_OPEN, BRACE_OPEN, FLOAT, INT, BOOL, NULL, UNQUOTED_CHAR, ID, ESC, WS, QUOTED_VALUE, INTERPOLATION}); if it is a text, say \"loss.beta='=4'\""
        ],
    ),
    ("loss.beta:4", ["loss.beta:4: not of the form key=value (token recognition error at: '4')"]),
    ("loss-beta=4", ["loss-beta=4: no such key; did you mean loss.beta?"]),
    ("loss\\beta=4", ["loss\\beta=4: not of the form key=value (token recognition error at: '\\')"]),
    (["rm -rf /"], ["rm -rf /: not of the form key=value (token recognition error at: ' ')"]),
    ("$(reboot)", ["$(reboot): not of the form key=value (token recognition error at: '(')"]),
    ("loss.beta='4", ["loss.beta='4: not of the form key=value (token recognition error at: ''4')"]),
    ('loss.beta="4', ["loss.beta=\"4: not of the form key=value (token recognition error at: '\"4')"]),
    ("loss.beta='4'", ["loss.beta: must be a number >= 0, not '4'"]),
    ("'loss.beta=4'", ["'loss.beta=4': not of the form key=value (token recognition error at: ''')"]),
    ("data.root='it's'", ["data.root='it's': not of the form key=value (token recognition error at: ''')"]),
    (
        "loss.beta=[1,2",
        [
            "loss.beta=[1,2: not of the form key=value (no viable alternative at input '[1,2'); if it is a text, say \"loss.beta='[1,2'\""
        ],
    ),
    (
        "loss.beta=1]",
        [
            "loss.beta=1]: not of the form key=value (extraneous input ']' expecting <EOF>); if it is a text, say \"loss.beta='1]'\""
        ],
    ),
    (
        "loss.beta={a:1",
        [
            "loss.beta={a:1: not of the form key=value (no viable alternative at input '{a:1'); if it is a text, say \"loss.beta='{a:1'\""
        ],
    ),
    (
        "loss.beta=foo(3)",
        [
            "loss.beta=foo(3): not of the form key=value (HydraException while evaluating 'foo(3)': Unknown function 'foo'); if it is a text, say \"loss.beta='foo(3)'\""
        ],
    ),
    (
        "loss.beta=int(x)",
        [
            "loss.beta=int(x): not of the form key=value (ValueError while evaluating 'int(x)': invalid literal for int() with base 10: 'x'); if it is a text, say \"loss.beta='int(x)'\""
        ],
    ),
    (f"loss.beta={150 * '['}{150 * ']'}", [f"loss.beta={150 * '['}{150 * ']'}: too many brackets in each other"]),
    ("loss.beta=", ["loss.beta: must be a number >= 0, not ''"]),
    ("loss.beta=null", ["loss.beta: must be a number >= 0, not null"]),
    ("loss.beta=true", ["loss.beta: must be a number >= 0, not true"]),
    ("loss.beta={a:1}", ["loss.beta: must be a number >= 0, not {'a': 1}"]),
    ("loss.beta=[4]", ["loss.beta: must be a number >= 0, not [4]"]),
    (["loss.beta=4 5"], ["loss.beta: must be a number >= 0, not '4 5'"]),
    ("loss.beta=-inf", ["loss.beta: must be a number >= 0, not -inf"]),
    ("loss.beta=1e999", ["loss.beta: must be a number >= 0, not inf"]),
    (f"loss.beta={400 * '9'}", [f"loss.beta: must be a number >= 0, not {400 * '9'}, which has more than 64 bits"]),
    (
        f"seed={5000 * '9'}",
        [
            f"seed={5000 * '9'}: not of the form key=value (Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits; use sys.set_int_max_str_digits() to increase the limit); if it is a text, say \"seed='{5000 * '9'}'\""
        ],
    ),
    (
        "loss.beta=${nope.x}",
        [
            "loss.beta: Interpolation key 'nope.x' not found",
            "beta.start: Interpolation key 'nope.x' not found",
            "beta.end: Interpolation key 'nope.x' not found",
        ],
    ),
    (
        "loss.beta=${oc.env:NO_SUCH_VARIABLE}",
        [
            "loss.beta: KeyError raised while resolving interpolation: \"Environment variable 'NO_SUCH_VARIABLE' not found\"",
            "beta.start: KeyError raised while resolving interpolation: \"Environment variable 'NO_SUCH_VARIABLE' not found\"",
            "beta.end: KeyError raised while resolving interpolation: \"Environment variable 'NO_SUCH_VARIABLE' not found\"",
        ],
    ),
    (
        "loss.beta=choice(1,2)",
        ["loss.beta=choice(1,2): several values are a sweep: add -m, or quote the value to mean one"],
    ),
    ("loss.beta=4 loss.beta=-5", ["loss.beta: must be a number >= 0, not -5"]),
    (
        "loss.bta=4 loss.bta=5",
        ["loss.bta=4: no such key; did you mean loss.beta?", "loss.bta=5: no such key; did you mean loss.beta?"],
    ),
    ("loss.beta.x=4", ["loss.beta.x=4: no such key; did you mean loss.beta?"]),
    (
        "loss.beta=٤",
        [
            "loss.beta=٤: not of the form key=value (token recognition error at: '٤'); if it is a text, say \"loss.beta='٤'\""
        ],
    ),
    ("löss.beta=4", ["löss.beta=4: not of the form key=value (token recognition error at: 'ö')"]),
    (
        "model=模型",
        [
            "model=模型: not of the form key=value (token recognition error at: '模'); if it is a text, say \"model='模型'\""
        ],
    ),
    (
        "data.root=~/Bücher",
        [
            "data.root=~/Bücher: not of the form key=value (token recognition error at: '~'); if it is a text, say \"data.root='~/Bücher'\""
        ],
    ),
    ("loss.beta='\x1b[2J'", ["loss.beta: must be a number >= 0, not '\\x1b[2J'"]),
    (["loss.beta='\n'"], ["loss.beta: must be a number >= 0, not '\\n'"]),
    ("seed=null", ["seed: must be a whole number >= 0 and <= 4294967295, not null"]),
    ("seed=1.0", ["seed: must be a whole number >= 0 and <= 4294967295, not 1.0"]),
    ("seed=4294967296", ["seed: must be a whole number >= 0 and <= 4294967295, not 4294967296"]),
    ("seed=0x10", ["seed: must be a whole number >= 0 and <= 4294967295, not '0x10'"]),
    (
        "model.latent_dim=99999999999999999999",
        ["model.latent_dim: must be a whole number >= 1, not 99999999999999999999, which has more than 64 bits"],
    ),
    ("model.latent_dim=1e3", ["model.latent_dim: must be a whole number >= 1, not 1000.0"]),
    ("model.latent_dim=true", ["model.latent_dim: must be a whole number >= 1, not true"]),
    (
        "model.hidden=[100,]",
        [
            "model.hidden=[100,]: not of the form key=value (no viable alternative at input '[100,]'); if it is a text, say \"model.hidden='[100,]'\""
        ],
    ),
    (
        "model.hidden=[null]",
        ["model.hidden: must be a list of at least one item, each a whole number >= 1, not [None]"],
    ),
    (
        "model.hidden=[[100]]",
        ["model.hidden: must be a list of at least one item, each a whole number >= 1, not [[100]]"],
    ),
    ("model.hidden=100", ["model.hidden: must be a list of at least one item, each a whole number >= 1, not 100"]),
    (
        "model.hidden=100,200",
        ["model.hidden=100,200: several values are a sweep: add -m, or quote the value to mean one"],
    ),
    ("data.batch_size=null", ["data.batch_size: must be a whole number >= 1, not null"]),
    ("data.root=3", ["data.root: must be a text, or null, not 3"]),
    ("data.source=3", ["data.source=3: stands for several keys; set one of them, or choose an option"]),
    ("data.source.name=CIFAR", ["data.source.name: must be one of MNIST, FashionMNIST, KMNIST, not 'CIFAR'"]),
    ("data.source={a:1}", ["data.source.a: no such key: vae_lightning.data.idx.Idx has mirror, name"]),
    (
        "data={}",
        [
            "data={}: no such option; data is one of cifar10, digits, dsprites, fashion_mnist, folder, kmnist, mnist, shapes, vectors"
        ],
    ),
    ("optimizer.lr=null", ["optimizer.lr: must be a number > 0, not null"]),
    ("optimizer.betas={a:1}", ["optimizer.betas={a:1}: Cannot merge DictConfig with ListConfig"]),
    ("model=null", [f"model=null: no such option; model is one of {MODELS}"]),
    ("model=[mlp]", [f"model=[mlp]: one option, not a list; model is one of {MODELS}"]),
    ("model=", [f"model=: no such option; model is one of {MODELS}"]),
    ("+model=mlp", ["model appears more than once in the final defaults list"]),
    ("model=../model/mlp", [f"model=../model/mlp: no such option; model is one of {MODELS}"]),
    ("model@x=mlp", ["Could not override 'model@x'."]),
    ("callback=null", ["callback=null: no such option; leave callback out; callback is one of early_stopping, ema"]),
    ("callback.ema=3", ["callback.ema=3: no such key; did you mean callback?"]),
    ("experiment=null", [f"experiment=null: no such option; leave experiment out; experiment is one of {EXPERIMENTS}"]),
    ("objective=", ["objective: an empty text is not of the form val/… or test/…: say test/loss"]),
    ("objective=elbo", ["objective: elbo is not of the form val/… or test/…: say test/elbo"]),
    ("objective=[3]", ["objective: must be a text, or a list of at least one item, each a text, not [3]"]),
    ("debug=yes", ["debug: must be true or false, not 'yes'"]),
    ("trainer.max_epochs=-1", ["trainer.max_epochs: must be a whole number >= 1, not -1"]),
    ("trainer.precision=7", ["trainer.precision: must be one of 32-true, 64-true, bf16-mixed, 16-mixed, not 7"]),
    (
        "trainer.devices=[]",
        [
            "trainer.devices: must be a whole number >= 1, or a list of at least one item, each a whole number, or a text, not []"
        ],
    ),
    ("hydra.run.dir=null", ["Error merging override hydra.run.dir=null"]),
    ("hydra.run.dir=${nope}", ["hydra.run.dir: Interpolation key 'nope' not found"]),
    ("hydra.foo=1", ["Could not override 'hydra.foo'."]),
    ("hydra.verbose=7", ["hydra.verbose: must be true or false, or the name of a logger, or a list of them, not 7"]),
    ("hydra/foo=x", ["Could not override 'hydra/foo'."]),
    ("hydra/job_logging=nope", ["In 'hydra/config': Could not find 'hydra/job_logging/nope'"]),
    ("hydra.searchpath=3", ["hydra.searchpath must be a list of strings. Got: 3"]),
    ("hydra.launcher.n_jobs=0", ["hydra.launcher.n_jobs: must be a whole number >= 1, not 0"]),
    ("~trainer.max_epochs", ["~trainer.max_epochs: cannot be left out; set it to what you want"]),
    (
        "+x={y:{_target_:os.system}}",
        ["+x={y:{_target_:os.system}}: a _target_ comes from conf/, not from the command line"],
    ),
]

# Found before it is looked at, or when the parts of a run are made; and those of the other commands.
OTHERS: list[tuple[str, str | list[str], list[str]]] = [
    ("", "ckpt=", ["ckpt=: say which run folder is to go on, or leave ckpt out"]),
    ("", "ckpt=[a]", ["ckpt=[a]: there is no such file or folder"]),
    ("", "ckpt=nowhere", ["ckpt=nowhere: there is no such file or folder"]),
    ("", ["ckpt=a", "ckpt='b c'"], ["ckpt=b c: there is no such file or folder"]),
    ("", "ckpt=.", ["ckpt=.: no checkpoint in it; checkpoints/last.ckpt was expected"]),
    ("", "ckpt=/dev/null", ["ckpt=/dev/null: no checkpoint in it; /dev/null/checkpoints/last.ckpt was expected"]),
    ("", f"ckpt={300 * 'x'}", [f"ckpt={300 * 'x'}: there is no such file or folder"]),
    (
        "",
        "ckpt=é",
        ["ckpt=é: not of the form key=value (token recognition error at: 'é'); if it is a text, say \"ckpt='é'\""],
    ),
    ("", "sweep.resume=", ["sweep.resume=.: not the folder of a sweep; multirun.yaml was expected"]),
    (
        "",
        ["sweep.resume='no where'"],
        ["sweep.resume=no where: not the folder of a sweep; no where/multirun.yaml was expected"],
    ),
    (
        "",
        f"sweep.resume={300 * 'x'}",
        [f"sweep.resume={300 * 'x'}: not the folder of a sweep; {300 * 'x'}/multirun.yaml was expected"],
    ),
    ("", "sweep.resume=x loss.bta=4", ["sweep.resume=x: not the folder of a sweep; x/multirun.yaml was expected"]),
    ("", "+sweep.resume=x", ["+sweep.resume=x: no such key; `--help` lists all keys"]),
    ("", "-m loss.beta=1,-2", ["loss.beta: must be a number >= 0, not -2"]),
    ("", "-m model=mlp,cnov", [f"model=cnov: no such option; did you mean conv?; model is one of {MODELS}"]),
    (
        "",
        "-m seed=interval(0,3)",
        [
            "seed=interval(0,3): there are endless values between; name some, as in key=1,2,4, or search: hydra/sweeper=optuna",
            "seed: must be a whole number >= 0 and <= 4294967295, not 0.0",
            "seed: must be a whole number >= 0 and <= 4294967295, not 3.0",
        ],
    ),
    ("", "-m hydra.sweep.dir=${nope} seed=1,2", ["hydra.sweep.dir: Interpolation key 'nope' not found"]),
    ("", "--config-dir=nowhere", ["--config-dir=nowhere: there is no such folder"]),
    (
        "",
        "--experimental-rerun=nowhere",
        ["--experimental-rerun=nowhere: there is no such .pickle file; ckpt=<run folder> goes on with a run"],
    ),
    ("", "data=digits data.val_size=5000", ["data.val_size=5000: between 1 and 1499 of the 1500 training images"]),
    (
        "",
        "data=digits objective=test/fid",
        ["objective=test/fid: this run measures loss, distortion, rate, elbo, bits_per_dim, each as val/… and test/…"],
    ),
    (
        "",
        "data=digits model.latent_dim=1000000000000",
        ["vae_lightning.model.mlp.mlp with latent_dim=1000000000000, hidden=[400]: more memory than there is"],
    ),
    (
        "",
        "data=digits loss.samples=9000000000000000000",
        [
            "the first images need more memory than there is: Storage size calculation overflowed with sizes=[9000000000000000000, 2, 20]"
        ],
    ),
    (
        "",
        "data=digits trainer.devices=x",
        ["accelerator=auto, devices=x: `devices` selected with `CPUAccelerator` should be an int > 0."],
    ),
    ("", "data=folder likelihood=normal", ["data=folder: say where the images are, data.root=<folder>"]),
    ("", "data=folder likelihood=normal data.root=nowhere", ["data.root=nowhere: there is no such folder"]),
    ("evaluate", [], ["run: say run=…: a text, or a list of at least one item, each a text"]),
    ("evaluate", "nowhere é", ["nowhere, é: there is no such file or folder"]),
    ("evaluate", f"{300 * 'x'}", [f"{300 * 'x'}: there is no such file or folder"]),
    ("evaluate", "run=nowhere", ["nowhere: there is no such file or folder"]),
    ("evaluate", "run=null", ["run: must be a text, or a list of at least one item, each a text, not null"]),
    ("evaluate", "run=. metric=[]", ["metric=[]: at least one is needed; without metric= it is all of them"]),
    (
        "evaluate",
        "run=. metric=liklihood",
        [
            "metric=liklihood: no such option; did you mean likelihood?; metric is one of ais, disentanglement, inference_gap, information, likelihood, reconstruction, representation, samples"
        ],
    ),
    ("evaluate", "run=. samples=0", ["samples: must be a whole number >= 1, not 0"]),
    ("evaluate", "run=. seed=-1", ["seed: must be a whole number >= 0 and <= 4294967295, not -1"]),
    ("evaluate", "run=. loss.beta=4", ["loss.beta=4: no such key; `--help` lists all keys"]),
    (
        "evaluate",
        "run=. -m",
        ["-m: vae_lightning.evaluate trains nothing and has no sweeps; name several folders instead"],
    ),
    ("evaluate", ".", [".: no checkpoint in it; checkpoints/best.ckpt was expected"]),
    ("evaluate", "~no_such_user", ["~no_such_user: there is no such file or folder"]),
    ("generate", "run=. n=1e3", ["n: must be a whole number >= 1, not 1000.0"]),
    (
        "generate",
        "run=. images=[-1]",
        ["images: must be a list of at least one item, each a whole number >= 0, or null, not [-1]"],
    ),
    (
        "generate",
        "run=. files=me.png",
        ["files: must be a list of at least one item, each a text, or null, not 'me.png'"],
    ),
    (
        "generate",
        "run=. sampler=null",
        ["sampler=null: no such option; sampler is one of codes, flow, mixture, prior, two_stage"],
    ),
    (
        "generate",
        "run=. what=[samples,traverse]",
        [
            "what=[samples,traverse]: one option, not a list; what is one of arithmetic, interpolate, reconstruct, samples, traverse"
        ],
    ),
    ("generate", "run=. span=nan", ["span: must be a number > 0, not nan"]),
    (
        "generate",
        "run=. _target_=os.system",
        ["_target_=os.system: a _target_ comes from conf/, not from the command line"],
    ),
    ("generate", "run=[]", ["run: must be a text, or a list of at least one item, each a text, not []"]),
    ("report", [], ["runs: say runs=…: a text, or a list of at least one item, each a text"]),
    (
        "report",
        "runs=nowhere",
        ["nowhere: no run in it; a folder with .hydra/config.yaml or results.json was expected"],
    ),
    ("report", "/dev/null", ["/dev/null: no run in it; a folder with .hydra/config.yaml or results.json was expected"]),
    ("report", "runs=. pictures=-1", ["pictures: must be a whole number >= 0, or null, not -1"]),
    ("report", "runs=. title=3", ["title: must be a text, or null, not 3"]),
    ("report", "runs=.", [".: no run in it; a folder with .hydra/config.yaml or results.json was expected"]),
    ("explore", "run=. port=0", ["port: must be a whole number >= 1, or null, not 0"]),
    ("explore", "run=. sliders=1.5", ["sliders: must be a whole number >= 1, not 1.5"]),
    ("explore", "run=[a,b]", ["a: there is no such file or folder"]),
    ("export", "run=. tolerance=0", ["tolerance: must be a number > 0, not 0"]),
    ("export", "run=. onnx=maybe", ["onnx: must be true or false, not 'maybe'"]),
    ("export", "run=. push=3", ["push: must be a text, or null, not 3"]),
    ("export", "run=.", [".: no checkpoint in it; checkpoints/best.ckpt was expected"]),
]


def arguments(line: str | list[str]) -> list[str]:
    """A row of these tables as arguments."""
    return line.split() if isinstance(line, str) else line
