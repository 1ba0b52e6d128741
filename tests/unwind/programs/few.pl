# As work.pl, with few calls: a debugger stops at each.
use strict;
my %h = map { $_ => [$_, "x$_", {n => $_}] } 1 .. 300;
my @sorted = sort { length($a) <=> length($b) || $a cmp $b } keys %h;
my $text = join ",", map { sprintf "%05d:%s", $_, $h{$_}[1] } @sorted;
my $count = 0;
$count++ while $text =~ /(\d+):x(\d)(\d*)/g;
(my $copy = $text) =~ s/(\d+)/<$1>/g;
print eval("sub { \$_[0] + $count }")->(length $copy), "\n";
