"""The signals: what is said (`events`), when (`catalogue`), who listens (`receiver`), and how it is carried (`bus`)."""
