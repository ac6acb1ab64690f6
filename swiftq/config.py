# SPDX-License-Identifier: GPL-3.0-or-later
"""The accounts of swiftdrop.ini(5), read by the filter's rules.

The only module that knows the file, the variables SWIFTDROP_* and the files
that hold secrets.  It judges what a reader needs of the one account that it
works with.  Whatever else the file says (keys of [SMTP], which recipients,
signing) is the filter's to judge and passes here.
"""
from __future__ import annotations

import configparser
import os
import re
import sys
from typing import Mapping, NoReturn, Optional

from .faults import Problem

PATH = '/etc/swiftdrop.ini'
DEFAULTS = {'prefix': 'cur/', 'auth_version': '3', 'cacert': '/etc/ssl/certs',
            'insecure': 'no', 'timeout': '60', 'retries': '2',
            'os_options_endpoint_type': 'public',
            'os_options_service_type': 'object-store'}
# For each there is X_file as well; a reader logs in by the first two.
SECRETS = ('key', 'os_options_application_credential_secret', 'temp_url_key',
           'temp_url_query')
EMPTY_IS_A_VALUE = ('prefix',)

CONTROL = re.compile('[\0-\x1f\x7f\ud800-\udfff]')
URL = (r'(?i:https?)://[^/ ?#][^ ?#]*', 'must be http:// or https://, a host '
       'and perhaps a path')
# What a value must look like, and how that is said.
FORMS = {
    'container': (r'(?!\.\.?\Z)[^/]+', "must be a container's name"),
    'auth_version': (r'3|3\.0|1|1\.0|tempurl', 'must be 3, 1 or tempurl'),
    'authurl': URL,
    'os_options_object_storage_url': URL,
    'os_options_endpoint_type': ('(public|internal|admin)(URL)?',
                                 'must be public, internal or admin'),
    'insecure': ('(?i:%s)' % '|'.join(
        configparser.ConfigParser.BOOLEAN_STATES), 'must be yes or no'),
    'timeout': ('[0-9]{1,18}', 'must be a whole number'),
    'retries': ('[0-9]{1,18}', 'must be a whole number'),
}
RANGES = {'timeout': (1, 366 * 86400), 'retries': (0, 100)}
LENGTHS = {'container': 256, 'prefix': 512}     # octets

# swiftclient's way to say both; a project's own name counts all the same.
TENANT_USER = re.compile('([^:]+):([^:]+)', re.DOTALL)
VARIABLE = re.compile('SWIFTDROP_([^_]+)_(.+)', re.DOTALL)
# Kubernetes and Docker make these up for services that are named swiftdrop.
FOREIGN = re.compile(
    r'SWIFTDROP_(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?'
    r'|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)'
    r'|SWIFTDROP_(NAME|ENV_.*)', re.DOTALL)
# What configparser says of a key without a value that goes on; before Python
# 3.13 it had no words for it.
CONTINUED = getattr(configparser, 'MultilineContinuationError', AttributeError)


class Account(dict):
    """A section's values as text, [DEFAULT]'s and the defaults included."""

    def __init__(self, name: str, values: Mapping[str, str]):
        super().__init__(values)
        self.name = name

    @property
    def version(self) -> str:
        """3, 1 or tempurl."""
        return self['auth_version'].removesuffix('.0')

    @property
    def has_credential(self) -> bool:
        return any('os_options_application_credential_' + k in self
                   for k in ('id', 'name'))

    @property
    def insecure(self) -> bool:
        return configparser.ConfigParser.BOOLEAN_STATES[
            self['insecure'].lower()]

    def os_options(self) -> dict[str, str]:
        """As swiftclient calls them; it may know more than the filter."""
        return {k.removeprefix('os_options_'): v for k, v in self.items()
                if k.startswith('os_options_')}

    def fault(self, key: str, reason: str) -> NoReturn:
        raise Problem(os.EX_CONFIG, f'[{self.name}] {key}: {reason}')


def load(path: Optional[str], wanted: Optional[str],
         environ: Mapping[str, str]) -> Account:
    """The account to work with: WANTED, or the only one there is."""
    found = accounts(path, environ)
    if not found:
        raise Problem(os.EX_CONFIG, f'{path or PATH}: there is no account')
    if wanted is None:
        names = [n for n, a in found.items() if 'recipients' in a]
        names = names or list(found)
        if len(names) != 1:
            raise Problem(os.EX_USAGE,
                          'name one with --account: ' + ', '.join(names))
        wanted = names[0]
    if wanted not in found:
        raise Problem(os.EX_USAGE, f'no account [{wanted}] in the '
                      'configuration, only: ' + ', '.join(found))
    account = found[wanted]
    base = environ.get('CREDENTIALS_DIRECTORY') or \
        os.path.dirname(path or PATH)
    for secret in SECRETS[:2]:
        if secret + '_file' in account:
            account[secret] = read_secret(
                account, secret + '_file',
                os.path.join(base, account.pop(secret + '_file')))
    check(account)
    return account


def accounts(path: Optional[str],
             environ: Mapping[str, str]) -> dict[str, Account]:
    """All accounts, unchecked.  [DEFAULT] is one if it has recipients."""
    sections = read(path, environ)
    shared = sections.get('DEFAULT', {})
    return {name: inherit(Account(name, own), shared)
            for name, own in sections.items()
            if name != 'SMTP' and (name != 'DEFAULT' or own.get('recipients'))}


def read(path: Optional[str],
         environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Each section as written, nothing inherited yet."""
    # An empty default_section makes [DEFAULT] a section like the others, as
    # what it hands down (not recipients, secrets by pairs) is decided below.
    parser = configparser.ConfigParser(
        interpolation=None, allow_no_value=True, default_section='')
    variables = [n for n in sorted(environ)
                 if VARIABLE.fullmatch(n) and not FOREIGN.fullmatch(n)]
    try:
        with open(path or PATH, encoding='utf-8-sig') as f:
            parser.read_file(f)
    except FileNotFoundError as e:
        if not variables:
            raise Problem(os.EX_CONFIG, f'{e.filename}: {e.strerror}')
    except OSError as e:
        raise Problem(os.EX_NOPERM, f'{e.filename}: {e.strerror}')
    except CONTINUED:
        raise Problem(os.EX_CONFIG, f'{path or PATH}: a key without a value '
                      'cannot go on in the next line')
    except configparser.ParsingError as e:
        # Not the line itself: what looks like a key may be a secret.
        line = e.lineno if hasattr(e, 'lineno') else e.errors[0][0]
        raise Problem(os.EX_CONFIG, f'{path or PATH}:{line}: no section comes '
                      'before this line, or no key before the delimiter')
    except (configparser.Error, UnicodeDecodeError) as e:
        raise Problem(os.EX_CONFIG, f'{path or PATH}: {e}')
    sections = {name: {k: v or '' for k, v in parser[name].items()}
                for name in parser.sections()}
    by_section: dict[str, dict[str, str]] = {}
    for name in variables:
        section, key = VARIABLE.fullmatch(name).groups()
        by_section.setdefault(section.upper(), {})[key.lower()] = \
            environ[name]
    for section, values in by_section.items():
        override(sections.setdefault(section, {}), values)
    return sections


def override(own: dict[str, str], variables: dict[str, str]) -> None:
    """A section's variables replace what the file says, either form of a
    secret both forms; beside the other form an empty one is none."""
    for secret in SECRETS:
        both = (secret, secret + '_file')
        given = [form for form in both if form in variables]
        if given:
            own.pop(both[0], None)
            own.pop(both[1], None)
        if len(given) == 2:
            for empty in [form for form in both if not variables[form]][:1]:
                del variables[empty]
    own.update(variables)


def inherit(own: Account, shared: Mapping[str, str]) -> Account:
    """What holds for an account, [DEFAULT] and our defaults included."""
    values = dict(shared)
    values.pop('recipients', None)
    for secret in SECRETS:
        forms = {secret, secret + '_file'} & own.keys()
        if len(forms) == 2:
            own.fault(secret, f'both {secret} and {secret}_file')
        if forms:
            values.pop(secret, None)
            values.pop(secret + '_file', None)
    values.update(own)
    account = Account(own.name, {
        **DEFAULTS, **{k: v for k, v in values.items()
                       if v or k in EMPTY_IS_A_VALUE}})
    tenant = TENANT_USER.fullmatch(account.get('user', ''))
    if tenant and account.version == '3' and not account.has_credential:
        account['user'] = tenant[2]
        account.setdefault('os_options_project_name', tenant[1])
    return account


def read_secret(account: Account, key: str, path: str) -> str:
    try:
        with open(path, encoding='utf-8', newline='') as f:
            secret = f.read().removesuffix('\n')
    except OSError as e:
        account.fault(key, f'{path}: {e.strerror}')
    except UnicodeDecodeError:
        account.fault(key, f'{path}: is not text in UTF-8')
    if not secret or secret[0] == '\ufeff' or CONTROL.search(secret):
        account.fault(key, f'{path}: is empty, or has a control character or '
                      'a byte order mark')
    return secret


def check(account: Account) -> None:
    for key, value in account.items():
        if CONTROL.search(value) and key != 'recipients':
            account.fault(key, 'is not one line of text without control '
                          'characters')
        form, reason = FORMS.get(key, ('', ''))
        if form and not re.fullmatch(form, value):
            account.fault(key, reason)
        low, high = RANGES.get(key, (0, 0))
        if high and not low <= int(value) <= high:
            account.fault(key, f'must be from {low} to {high}')
        if len(value.encode()) > LENGTHS.get(key, sys.maxsize):
            account.fault(key, f'must have at most {LENGTHS[key]} octets')
    if account.version == 'tempurl':
        account.fault('auth_version', 'tempurl can store messages but neither '
                      'list nor move them: the reader needs a user of its '
                      'own (--account or -c)')
    for key in needed(account):
        if not account.keys() & set(key.split(' or ')):
            account.fault(key, 'is missing')
    if account.version == '3' and '/v2.0' in account['authurl']:
        account.fault('authurl', 'is of Keystone v2, which no longer exists')


def needed(account: Account) -> list[str]:
    if account.version == '1':
        return ['container', 'authurl', 'user', 'key']
    user = ['user or os_options_user_id']
    if account.has_credential:
        return ['container', 'authurl',
                'os_options_application_credential_secret',
                *(user * ('os_options_application_credential_id'
                          not in account))]
    return ['container', 'authurl', *user, 'key']
