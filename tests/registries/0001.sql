BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE checkpoints (
	run_id VARCHAR NOT NULL, 
	path VARCHAR NOT NULL, 
	epoch INTEGER NOT NULL, 
	step BIGINT NOT NULL, 
	sha256 VARCHAR NOT NULL, 
	kinds JSON NOT NULL, 
	created DATETIME NOT NULL, 
	CONSTRAINT pk_checkpoints PRIMARY KEY (run_id, path), 
	CONSTRAINT fk_checkpoints_run_id FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
INSERT INTO "checkpoints" VALUES('3fa9c2d1','checkpoints/epoch-0001',1,5400,'sha256:ef','["best","last"]','2026-01-28 19:30:00.000000');
CREATE TABLE metrics (
	run_id VARCHAR NOT NULL, 
	epoch INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	value DOUBLE, 
	CONSTRAINT pk_metrics PRIMARY KEY (run_id, epoch, name), 
	CONSTRAINT fk_metrics_run_id FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
INSERT INTO "metrics" VALUES('3fa9c2d1',0,'val_auroc_macro',0.5);
INSERT INTO "metrics" VALUES('3fa9c2d1',0,'train_loss',0.25);
INSERT INTO "metrics" VALUES('3fa9c2d1',1,'val_auroc_macro',0.75);
INSERT INTO "metrics" VALUES('3fa9c2d1',1,'train_loss',NULL);
INSERT INTO "metrics" VALUES('3fa9c2d1',-1,'test_auroc_macro',0.8125);
INSERT INTO "metrics" VALUES('3fa9c2d1',-1,'test_auroc_Hernia',NULL);
CREATE TABLE runs (
	id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	path VARCHAR NOT NULL, 
	status VARCHAR NOT NULL, 
	seed BIGINT NOT NULL, 
	dataset VARCHAR NOT NULL, 
	model VARCHAR NOT NULL, 
	device VARCHAR NOT NULL, 
	config_fingerprint VARCHAR, 
	created DATETIME NOT NULL, 
	started DATETIME, 
	ended DATETIME, 
	host VARCHAR, 
	boot_id VARCHAR, 
	pid INTEGER, 
	process_started DOUBLE, 
	heartbeat DATETIME, 
	parent VARCHAR, 
	tags JSON NOT NULL, 
	note VARCHAR NOT NULL, 
	epochs_total INTEGER, 
	epochs_done INTEGER NOT NULL, 
	steps_done BIGINT NOT NULL, 
	fingerprint VARCHAR, 
	trace_digest VARCHAR, 
	error VARCHAR, 
	hidden BOOLEAN NOT NULL, 
	data_fingerprint VARCHAR, 
	code_digest VARCHAR, 
	git_commit VARCHAR, 
	git_dirty BOOLEAN, 
	accepted JSON NOT NULL, 
	config JSON NOT NULL, 
	hardware JSON NOT NULL, 
	versions JSON NOT NULL, 
	CONSTRAINT pk_runs PRIMARY KEY (id), 
	CONSTRAINT uq_runs_name UNIQUE (name)
);
INSERT INTO "runs" VALUES('3fa9c2d1','nih-resnet50-s42-3fa9c2d1','runs/nih-resnet50-s42-3fa9c2d1','completed',42,'nih','resnet50','cuda','sha256:c0ff','2026-01-28 19:30:00.000000','2026-01-28 19:30:00.000000','2026-01-29 00:30:00.000250','node1','b1',4711,1769628600.25,'2026-01-29 00:30:00.000000',NULL,'["paper","größer"]','the "first" run',2,2,5400,'xxh3-128:ab','sha256:cd',NULL,0,'sha256:da','sha256:c0','0123abc',0,'[]','{"seed":42,"train":{"lr":0.0001}}','{"cpu":"EPYC","cores":16,"gpus":["H200"]}','{"python":"3.11.2","torch":"2.15.0"}');
INSERT INTO "runs" VALUES('00c0ffee','phantom-resnet18-s4294967295-00c0ffee','runs/phantom-resnet18-s4294967295-00c0ffee','failed',4294967295,'phantom','resnet18','cpu',NULL,'2026-01-29 19:30:00.000000',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'3fa9c2d1','[]','',NULL,0,0,NULL,NULL,'RunError: the loss is not a number',1,NULL,NULL,NULL,1,'[{"what":"torch"}]','{}','{}','{}');
CREATE TABLE verifications (
	number INTEGER NOT NULL, 
	run_id VARCHAR NOT NULL, 
	created DATETIME NOT NULL, 
	verdict VARCHAR NOT NULL, 
	steps_compared BIGINT NOT NULL, 
	steps_total BIGINT NOT NULL, 
	report JSON NOT NULL, 
	CONSTRAINT pk_verifications PRIMARY KEY (number), 
	CONSTRAINT fk_verifications_run_id FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
INSERT INTO "verifications" VALUES(1,'3fa9c2d1','2026-01-30 19:30:00.000000','identical',5400,5400,'{"cause":[]}');
INSERT INTO "verifications" VALUES(2,'3fa9c2d1','2026-01-31 19:30:00.000000','diverged',17,5400,'{"first_divergence":{"step":17}}');
CREATE INDEX ix_runs_created_id ON runs (created, id);
CREATE INDEX ix_verifications_run_id ON verifications (run_id);
COMMIT;
