"""Whether latents stand for the known factors of the data, one for one."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch

from vae_lightning.metric.mutual_information import mig, modularity, telling
from vae_lightning.metric.predictors import dci, explicitness, sap
from vae_lightning.metric.value import Names, NotApplicable, Value
from vae_lightning.metric.votes import beta_vae_score, factor_vae_score
from vae_lightning.progress import track
from vae_lightning.schema import Count, NonNegative, NonNegativeInt
from vae_lightning.trained import Split, Trained, centre

SPLITS: tuple[Split, ...] = ("test", "val", "train")  # those that the weights have not seen come first
LEAST = 50  # images that say anything
PORTION = 512


class Disentanglement:
    """Scores of the posterior means against the factors that the images were made from; 1 is best for all of them.

    The protocols are those of Locatello et al. (2019), arXiv:1811.12359: the papers' own, with the sizes below. Where
    the test set is smaller than they ask for, validation and training images follow. A factor that has one value
    among these images is left out.

    Args:
        images: that predictors learn from.
        test_images: that predictors are judged by; if there are too few images, in the same proportion. The other
            scores look at all these images together.
        bins: of each latent, for mutual information.
        train_votes: of the FactorVAE and BetaVAE scores.
        eval_votes: that these are the mean of.
        batch: images, or pairs of them, per vote.
        least_variance: over images, that a latent's mean needs to have a vote in the FactorVAE score.
        predictor: of DCI: `boosting`, or `forest`: faster, and not comparable with it.
        trees: for each factor; of boosting, for each value of it.
        categorical: names of factors without an order, for SAP; null: none.
        seed: of the choice of images, the votes and the trees.
    """

    lower_is_better: Names = ()
    higher_is_better: Names = (
        *("mig", "sap", "factor_vae_score", "beta_vae_score", "modularity", "explicitness"),
        *("dci_disentanglement", "dci_completeness", "dci_informativeness"),
    )

    def __init__(
        self,
        images: Count = 10_000,
        test_images: Count = 5000,
        bins: Count = 20,
        train_votes: Count = 10_000,
        eval_votes: Count = 5000,
        batch: Count = 64,
        least_variance: NonNegative = 0.05,
        predictor: Literal["boosting", "forest"] = "boosting",
        trees: Count = 100,
        categorical: list[str] | None = None,
        seed: NonNegativeInt = 0,
    ) -> None:
        self.images, self.test_images, self.bins = images, test_images, bins
        self.votes: dict[str, Any] = {"train_votes": train_votes, "eval_votes": eval_votes, "batch": batch}
        self.least_variance, self.categorical, self.seed = least_variance, categorical or [], seed
        self.trees: dict[str, Any] = {"predictor": predictor, "trees": trees}

    def __call__(self, trained: Trained) -> dict[str, Value]:
        """mig, dci_disentanglement, dci_completeness, dci_informativeness, sap, factor_vae_score, beta_vae_score,
        modularity, explicitness.

        Raises:
            NotApplicable: the factors are not known, or fewer than two of them vary, or there are hardly any images.
        """
        codes, factors, origin = self.table(trained)
        train = len(codes) * self.images // (self.images + self.test_images)
        names = trained.data.factor_names
        varying = [f for f, v in enumerate(factors.T) if min(len(set(v[:train])), len(set(v[train:]))) > 1]
        if len(codes) < LEAST or len(varying) < 2:
            raise NotApplicable(
                f"{len(codes)} images and {len(varying)} factors that vary: too few; say data.limit=null"
            )
        factors = factors[:, varying]
        categorical = [i for i, f in enumerate(varying) if names[f] in self.categorical]
        importance = dci(codes, factors, train, **self.trees, seed=self.seed)
        factor_vae = factor_vae_score(codes, factors, **self.votes, least_variance=self.least_variance, seed=self.seed)
        beta_vae = beta_vae_score(codes, factors, **self.votes, seed=self.seed)
        left_out = [f"{name} has one value" for f, name in enumerate(names) if f not in varying]
        told = int(telling(codes, factors, self.bins).sum())
        chance = np.mean([np.unique(v[train:], return_counts=True)[1].max() / len(v[train:]) for v in factors.T])
        active = int((codes.var(0) > self.least_variance).sum())
        judged = f"fitted on {train} images, judged on {len(codes) - train}"
        return {
            "mig": Value(mig(codes, factors, self.bins), note="; ".join([origin, *left_out])),
            "dci_disentanglement": Value(importance.disentanglement, note=f"{self.trees['predictor']}, {judged}"),
            "dci_completeness": Value(importance.completeness, note="likewise"),
            "dci_informativeness": Value(importance.informativeness, note=f"accuracy; chance is {chance:.2f}"),
            "sap": Value(sap(codes, factors, train, categorical)),
            "factor_vae_score": self._voted(factor_vae, f"{active} of {codes.shape[1]} latents vary", len(varying)),
            "beta_vae_score": self._voted(beta_vae, f"pairs, {self.votes['batch']} a vote", len(varying)),
            "modularity": Value(
                modularity(codes, factors, self.bins), note=f"of the {told} latents that tell of a factor"
            ),
            "explicitness": Value(explicitness(codes, factors, train), note="area under the ROC curve; chance is 0.5"),
        }

    def _voted(self, score: float, note: str, n_factors: int) -> Value:
        error = math.sqrt(score * (1 - score) / self.votes["eval_votes"])
        return Value(score, standard_error=error, note=f"{note}; chance is about {1 / n_factors:.2f}")

    def table(self, trained: Trained) -> tuple[np.ndarray, np.ndarray, str]:
        """Posterior means (N, D) and factors (N, F) of images chosen at random, and where these come from.

        Raises:
            NotApplicable: the factors are not known.
        """
        known = trained.data.factors
        if known is None:
            raise NotApplicable(f"data={trained.choices['data']}: its factors are not known")
        rng, left = np.random.default_rng(self.seed), self.images + self.test_images
        codes, factors, origin = [], [], []
        for split in SPLITS:
            chosen = torch.from_numpy(rng.permutation(len(known[split]))[:left])
            if len(chosen) == 0:
                continue
            images, labels = trained.images(split)
            for some in track(chosen.split(PORTION), f"{split} images", math.ceil(len(chosen) / PORTION)):
                batch = trained.batch(images[some], labels[some])
                with torch.no_grad():
                    codes.append(centre(trained.model.encode(batch.x, batch.c)).flatten(1).cpu().double())
            factors.append(known[split][chosen])
            origin.append(f"{len(chosen)} {split}")
            left -= len(chosen)
        mixed = rng.permutation(sum(map(len, factors)))
        return torch.cat(codes).numpy()[mixed], torch.cat(factors).numpy()[mixed], ", ".join(origin) + " images"
