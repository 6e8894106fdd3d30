"""Search: `hydra/sweeper=optuna` proposes settings, prunes bad trials while they train, and says what was best."""
